use std::process::{Command, Stdio};

/// A command that runs `program` for as long as somebody holds its standard input, and ends it by `signal` after that: so also
/// when this process is killed. Where its output goes is the caller's to say.
pub(crate) fn keep(program: &Command, signal: &str) -> Command {
    // The keeper reads what nobody writes; the end of it, which comes even when this process is killed, ends the program.
    let keep = format!(
        r#"exec 3<&0; "$@" 3<&- & program=$!; {{ cat <&3; kill -{signal} $program; }} & reader=$!; wait $program; kill $reader"#
    );
    let mut keeper = Command::new("sh");
    keeper.args(["-c", &keep, "keeper"]).arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => keeper.env(name, value),
            None => keeper.env_remove(name),
        };
    }
    keeper.stdin(Stdio::piped());
    keeper
}
