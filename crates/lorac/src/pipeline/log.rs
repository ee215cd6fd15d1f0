//! `log:`: where the course of a training is told, besides metrics.jsonl.

use lorac_config::{Check, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the course of a training is told, besides metrics.jsonl.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogOptions {
    /// Event files of TensorBoard in the output folder, below tensorboard/
    pub tensorboard: bool,
    /// A command, as program and arguments, that is fed the lines of metrics.jsonl: its standard input gets each at once, and ends with the training. It runs with the rights of lorac, so it is given where the run is started and not in a file: --set "log.command=[PROGRAM, ARGUMENT]"
    pub command: Vec<String>,
}

impl Check for LogOptions {
    fn check(&self, problems: &mut Problems) {
        const CODE: &str = "pipeline::command";
        let Some(program) = self.command.first() else { return };
        if let Some(i) = self.command.iter().position(|part| part.contains('\0')) {
            problems.within("command", |p| p.report(&i.to_string(), CODE, "an argument has no zero bytes"));
        } else if program.trim().is_empty() {
            problems.report("command", CODE, "`command` names no program");
        } else if self.command.len() == 1 && program.contains(char::is_whitespace) {
            let parts: Vec<&str> = program.split_whitespace().collect();
            let help = format!("no shell reads it: write a list, command: [{}]", parts.join(", "));
            let message = format!("`{program}` is one program with blanks in its name");
            problems.report_with_help("command", CODE, message, Some(help));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_program_with_its_arguments() {
        let found = |command: &[&str]| {
            let mut problems = Problems::default();
            let command = command.iter().map(|part| part.to_string()).collect();
            LogOptions { command, tensorboard: false }.check(&mut problems);
            problems.finish().into_iter().map(|p| (p.path, p.help.unwrap_or_default())).collect::<Vec<_>>()
        };
        assert!(found(&[]).is_empty() && found(&["cat"]).is_empty() && found(&["/a b/c", "-x"]).is_empty());
        let help = "no shell reads it: write a list, command: [python3, to_wandb.py]".to_string();
        assert_eq!(found(&["python3 to_wandb.py"]), [("command".to_string(), help)]);
        assert_eq!(found(&[" ", "a"]).len(), 1);
        assert_eq!(found(&["a", "b\0"])[0].0, "command.1");
    }
}
