//! `hostctl --help`: the commands by what they are for.

use std::fmt::Write;

use clap::Command;

use super::matrix::wrap;
use super::terminal;

/// The commands, in groups.
const GROUPS: [(&str, &[&str]); 6] = [
    ("Look at a spec", &["check", "matrix", "explain", "prove", "diff", "render", "spec", "schema"]),
    ("Change the host", &["plan", "apply", "confirm", "rollback", "generations", "down", "cleanup"]),
    ("Look at the host", &["status", "audit", "doctor", "test"]),
    ("Edit the spec and apply it", &["vpc", "subnet", "nat", "peer", "firewall"]),
    ("Run guests and apps", &["vm", "app", "deploy"]),
    ("Set up", &["completions", "man", "help"]),
];

/// No wider, however wide the terminal is.
const WIDTH: usize = 100;

/// The program with its commands listed in groups.
pub fn grouped(mut command: Command) -> Command {
    // Its own `help` is there only once it is built.
    let mut built = command.clone();
    built.build();
    let width = terminal::width(&std::io::stdout()).unwrap_or(WIDTH).min(WIDTH);
    let list = list(&built, width);
    command = command.help_template(format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{list}\n{heading}Options:{reset}\n{{options}}{{after-help}}",
        heading = built.get_styles().get_header().render(),
        reset = built.get_styles().get_header().render_reset(),
    ));
    command
}

fn list(command: &Command, width: usize) -> String {
    let styles = command.get_styles();
    let (heading, literal) = (styles.get_header(), styles.get_literal());
    let longest = command.get_subcommands().map(|one| one.get_name().len()).max().unwrap_or_default();
    let mut text = format!("{}Commands:{}\n", heading.render(), heading.render_reset());
    let line = |text: &mut String, name: &str| {
        let Some(one) = command.find_subcommand(name) else { return };
        let about = one.get_about().map(ToString::to_string).unwrap_or_default();
        let aliases: Vec<&str> = one.get_visible_aliases().collect();
        let aliases =
            if aliases.is_empty() { String::new() } else { format!(" [alias: {}]", aliases.join(", ")) };
        let about = about.trim_end_matches('.').to_string() + &aliases;
        let before = longest + 4;
        let indent = " ".repeat(before);
        let lines = wrap(&about, width.saturating_sub(before).max(20), "");
        _ = writeln!(
            text,
            "  {}{name}{}{:fill$}  {}",
            literal.render(),
            literal.render_reset(),
            "",
            lines.join(&format!("\n{indent}")),
            fill = longest - name.len(),
        );
    };
    for (title, names) in GROUPS {
        _ = writeln!(text, " {title}:");
        names.iter().for_each(|name| line(&mut text, name));
    }
    let grouped = |name: &str| GROUPS.iter().any(|(_, names)| names.contains(&name));
    let rest: Vec<&str> = command
        .get_subcommands()
        .filter(|one| !one.is_hide_set() && !grouped(one.get_name()))
        .map(Command::get_name)
        .collect();
    if !rest.is_empty() {
        text.push_str(" More:\n");
        rest.iter().for_each(|name| line(&mut text, name));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::Arguments;
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut command = Arguments::command();
        command.build();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let mut there: Vec<&str> =
            command.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).collect();
        grouped.sort_unstable();
        there.sort_unstable();
        assert_eq!(grouped, there);
    }

    #[test]
    fn the_list_fits() {
        let mut command = Arguments::command();
        command.build();
        for width in [60, 80, 100] {
            let plain =
                list(&command, width).replace("\x1b[0m", "").replace("\x1b[1m", "").replace("\x1b[4m", "");
            for line in plain.lines() {
                assert!(line.chars().count() <= width, "{width}: {line}");
            }
        }
    }
}
