//! Why a component is not taken, for its author.

use std::time::Duration;

/// A component that is no plugin, or that cannot be made ready to run within the limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The bytes are not a component.
    #[error("not a WebAssembly component: {0}")]
    NotAComponent(&'static str),
    /// Larger than the setting allows.
    #[error("larger than {limit} bytes ({setting})")]
    TooLarge {
        /// In bytes.
        limit: usize,
        /// Which setting says so.
        setting: &'static str,
    },
    /// The component is not valid, or uses a feature that is off. The compiler's words.
    #[error("invalid component: {0}")]
    Invalid(String),
    /// It imports what no plugin gets.
    #[error("it imports `{0}`; a plugin may import WASI 0.2 without wasi:http and revnoxa:webhook/log only")]
    Import(String),
    /// It was made for a version of the contract that this host does not run.
    #[error("`{found}` is of another version of the contract; this host runs revnoxa:webhook@{runs}")]
    ContractVersion {
        /// The import or export.
        found: String,
        /// Up to which version.
        runs: &'static str,
    },
    /// It does not export the handler, or with other types.
    #[error("it does not fit the contract revnoxa:webhook: {0}")]
    Contract(String),
    /// It has more parts, larger tables or more memory than a plugin may have.
    #[error("it is over a limit of the sandbox: {0}")]
    Limits(String),
    /// Compiling it took too much memory.
    #[error("compiling it needs more than {0} bytes of memory")]
    CompileMemory(u64),
    /// Compiling it took too long.
    #[error("compiling it takes more than {} s of CPU time", .0.as_secs())]
    CompileTime(Duration),
    /// The compiler got too little of the CPU: not the component's fault.
    #[error("this host was too busy to compile it; try again")]
    Busy,
    /// The compiler ended in another way; deep nesting does that.
    #[error("compiling it ended the compiler ({0}); is it nested very deeply?")]
    CompilerEnded(String),
    /// The machine code is too large.
    #[error("its machine code is too large")]
    ArtifactSize,
    /// The compiler could not be run at all: not the component's fault.
    #[error("the compiler does not run: {0}")]
    Compiler(String),
}
