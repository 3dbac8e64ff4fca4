//! How long the long parts of stories are: scaled down in `make test`, at full length in `make test-long`.

/// The variable that `make test-long` sets to 1.
const LONG: &str = "LONG";

/// `full` when stories run at full length, else `scaled`.
pub fn of<T>(scaled: T, full: T) -> T {
    if std::env::var_os(LONG).is_some_and(|value| value == "1") {
        full
    } else {
        scaled
    }
}
