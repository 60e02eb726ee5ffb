use std::process::ExitCode;

/// What a program of ours ends with. The numbers are part of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// 0: done; for `run`, stopped in good order.
    Ok,
    /// 1: failed.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 3: nothing matches, or it is not there.
    NotFound,
    /// 4: done in part; what was not is on stderr.
    Partial,
    /// 69: broker or store cannot be reached. Only of commands: `run` waits for them.
    Unavailable,
    /// 70: fenced: another process uses our transactional or static member id.
    Fenced,
    /// 75: try again: another process holds what is needed, or changed it meanwhile.
    TryAgain,
    /// 78: the configuration is wrong.
    Config,
    /// Any other: 130 and 143 of a second signal, or what a command says.
    Code(i32),
}

impl Exit {
    /// What a program ends with that a signal stopped: `SIGINT` or `SIGTERM`.
    pub(crate) fn of_signal(name: &str) -> Self {
        Self::Code(if name == "SIGINT" { 130 } else { 143 })
    }

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Partial => 4,
            Self::Unavailable => 69,
            Self::Fenced => 70,
            Self::TryAgain => 75,
            Self::Config => 78,
            Self::Code(code) => u8::try_from(code).unwrap_or(1),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
