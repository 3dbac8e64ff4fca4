use clap::Parser as _;
use proptest::prelude::*;

use super::*;

const HOUR: Option<u64> = Some(3600);

#[test]
fn durations_are_hours_minutes_and_seconds() {
    for (text, seconds) in [
        ("90s", 90),
        ("10m", 600),
        ("1h30m", 5400),
        ("0s", 0),
        ("1h0m1s", 3601),
    ] {
        assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "", "5", "10", "s", "soon", "30m1h", "1.5h", "1d", "2d", "-5s", "1h30", "500ms", "1s1s", "1000000s",
    ] {
        let expected = format!("{text:?} is not a duration: write it as 90s, 10m or 1h30m");
        assert_eq!(duration(text), Err(expected));
    }
}

proptest! {
    #[test]
    fn the_parts_of_a_duration_add_up(h in 0u64..999_999, m in 0u64..999_999, s in 0u64..999_999) {
        prop_assert_eq!(duration(&format!("{h}h{m}m{s}s")).unwrap().as_secs(), h * 3600 + m * 60 + s);
    }

    #[test]
    fn no_duration_makes_it_panic(text in ".{0,20}") {
        let _ = duration(&text);
    }
}

#[test]
fn values_have_bounds_that_are_included() {
    assert_eq!(duration_within("1s", 1, HOUR), Ok(Duration::from_secs(1)));
    assert_eq!(duration_within("1h", 1, HOUR), Ok(Duration::from_hours(1)));
    assert_eq!(duration_within("9999h", 1, None), Ok(Duration::from_hours(9999)));
    for (text, max, says) in [
        ("0s", HOUR, "\"0s\" is too short: the least is 1s"),
        ("61m", HOUR, "\"61m\" is too long: the most is 3600s"),
        (
            "x",
            None,
            "\"x\" is not a duration: write it as 90s, 10m or 1h30m",
        ),
    ] {
        assert_eq!(duration_within(text, 1, max), Err(says.to_owned()));
    }
    assert_eq!(number_within("1", 1, 256), Ok(1));
    assert_eq!(number_within("256", 1, 256), Ok(256));
    for text in ["0", "257", "-1", "1.5", "many", "", "99999999999999999999"] {
        let expected = format!("{text:?} is not a whole number from 1 to 256");
        assert_eq!(number_within(text, 1, 256), Err(expected));
    }
}

#[test]
fn addresses_have_a_host_and_a_port() {
    for text in ["0.0.0.0:8080", "[::1]:0", "[::]:8082"] {
        assert_eq!(address(text).unwrap().to_string(), text);
    }
    for text in ["8080", "localhost:1", ":1", "x", "", "10.0.0.1", "1.1.1.1:65536"] {
        let expected = format!("{text:?} is not an address: write it as 0.0.0.0:8080 or [::]:8080");
        assert_eq!(address(text), Err(expected));
    }
}

#[test]
fn an_empty_text_was_not_given() {
    assert_eq!(given(Some("x")), Some("x"));
    assert_eq!(given(Some("")), None);
    assert_eq!(given(None), None);
}

#[test]
fn all_problems_are_told_at_once() {
    let mut problems = Problems::default();
    assert_eq!(problems.keep("--one", Ok::<_, String>(1)), 1);
    let count: u8 = problems.keep("--count", Err("is odd"));
    let name = problems.keep_or("--name", Err("is odd, too".to_owned()), "placeholder");
    assert_eq!((count, name), (0, "placeholder"));
    let told = problems.none_or(()).unwrap_err();
    let lines: Vec<String> = told.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["--count: is odd", "--name: is odd, too"]);
    assert_eq!(Problems::default().none_or(1), Ok(1));
}

#[test]
fn help_is_no_failure_and_everything_else_is_a_misuse() {
    #[derive(Debug, clap::Parser)]
    #[command(version)]
    struct Flags {}

    for (argument, code) in [("--help", 0), ("--version", 0), ("--what", 2), ("what", 2)] {
        let error = Flags::try_parse_from(["program", argument]).unwrap_err();
        assert_eq!(Unusable::CommandLine(error).exit_code(), code, "{argument}");
    }
    let problem = FlagError {
        flag: "--count",
        problem: "is odd".to_owned(),
    };
    assert_eq!(Unusable::Values(vec![problem]).exit_code(), 2);
}
