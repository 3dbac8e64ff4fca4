//! A program from its start to its exit code.

use std::{
    fmt::Display,
    io::{self, Write},
    process::ExitCode,
};

use tokio::runtime::Runtime;

use crate::flags::Unusable;

/// A program, as it speaks to whoever watches it.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// What its lines outside of the log begin with.
    pub name: &'static str,
    /// Logs an error, and says whether errors are written. It is the program's own code, so that the line tells of it.
    pub log: fn(&str) -> bool,
}

impl Program {
    /// Ends without having begun, for want of a usable command line.
    pub fn refuse(self, unusable: &Unusable) -> ExitCode {
        // If even that cannot be written, the exit code has to do.
        let _ = unusable.report(self.name);
        ExitCode::from(unusable.exit_code())
    }

    /// Works on `runtime` until the work has ended.
    pub fn run<E: Display>(
        self,
        runtime: io::Result<Runtime>,
        work: impl Future<Output = Result<(), E>>,
    ) -> ExitCode {
        match runtime {
            Ok(runtime) => {
                let ended = runtime.block_on(work);
                // A name resolution that hangs must not hold up the end.
                runtime.shutdown_background();
                ended.map_or_else(|error| self.fail(&error.to_string()), |()| ExitCode::SUCCESS)
            }
            Err(error) => self.fail(&format!("cannot start: {error}")),
        }
    }

    /// Says why in one line: in the log if it is written, else to whoever watches.
    pub fn fail(self, why: &str) -> ExitCode {
        if !(self.log)(why) {
            // If even that cannot be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "{}: {why}", self.name);
        }
        ExitCode::FAILURE
    }
}
