use revnoxa_host::config::Config;

use super::text;

/// The text of a file of settings, and after a NUL variables of the environment, `NAME=VALUE` a line.
pub fn config(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let (file, environment) = text.split_once('\0').unwrap_or((text, ""));
    let variables = environment.lines().filter_map(|line| line.split_once('='));
    let variables: Vec<(String, String)> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    match Config::read(file, variables.clone()) {
        Ok(config) => {
            config.check().expect("what is read keeps to the rules");
            assert!(config.lease > config.attempt_timeout);
            let again = Config::read(file, variables).expect("it was read before");
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
        }
        Err(error) => {
            let words = error.to_string();
            assert!(words.starts_with("setting"), "{words}");
        }
    }
}
