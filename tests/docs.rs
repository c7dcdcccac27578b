//! The documentation says what the program does: its references are generated,
//! its specs compile, its links lead somewhere, its promises have tests.

use std::fs;
use std::path::Path;

use crate::support::docs_support::{Page, cli, host_spec, page, pages, top};
use hostctl::root_dir::RootDir;
use hostctl::spec::load_checked;
use hostctl::topology::compile;

/// Compares a generated file with the committed one; writes it with
/// `UPDATE_DOCS=1`.
fn generated(path: &str, text: &str) {
    let file = top().join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    if committed == text {
        return;
    }
    let first = committed.lines().zip(text.lines()).find(|(old, new)| old != new);
    let (old, new) = first.unwrap_or(("the end of one", "the end of the other"));
    panic!("{path} is out of date:\n- {old}\n+ {new}\nUPDATE_DOCS=1 cargo test --test all docs:: writes it");
}

#[test]
fn the_command_line_reference_is_what_help_says() {
    generated("docs/reference/cli.md", &cli::reference());
}

#[test]
fn the_host_spec_reference_is_what_the_schema_says() {
    generated("docs/reference/host-spec.md", &host_spec::reference());
}

#[test]
fn every_host_spec_in_the_documentation_compiles() {
    let directory = tempfile::tempdir().unwrap();
    let mut checked = 0;
    for page in pages() {
        for block in page.blocks() {
            let name = match block.language.as_str() {
                "toml" => "host.toml",
                "json" => "host.json",
                _ => continue,
            };
            let file = directory.path().join(name);
            fs::write(&file, &block.text).unwrap();
            let loaded = load_checked(Some(&file), &RootDir::new(directory.path().join("root")), compile);
            let place = format!("{}:{}", page.path.display(), block.line);
            loaded.unwrap_or_else(|error| panic!("{place}: {error}"));
            checked += 1;
        }
    }
    assert!(checked >= 5, "only {checked} specs were found");
}

#[test]
fn every_relative_link_leads_somewhere() {
    for page in pages() {
        for link in page.links() {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = link.split_once('#').map_or((link.as_str(), None), |(p, a)| (p, Some(a)));
            let here = page.path.parent().unwrap_or(Path::new(""));
            let file = if path.is_empty() { page.path.clone() } else { here.join(path) };
            let place = format!("{}: {link}", page.path.display());
            assert!(top().join(&file).exists(), "{place}: there is no such file");
            if let Some(anchor) = anchor {
                let text = fs::read_to_string(top().join(&file)).unwrap();
                let anchors = Page { path: file, text }.anchors();
                assert!(anchors.iter().any(|known| known == anchor), "{place}: there is no such heading");
            }
        }
    }
}

/// The words after each `hostctl` that stands where a command does.
fn invocations(page: &Page) -> Vec<Vec<String>> {
    let mut lines = page.code_spans();
    let unit = |line: &str| line.strip_prefix("ExecStart=").map(str::to_string);
    for block in page.blocks() {
        let typed = |line: &str| line.strip_prefix("$ ").map(str::to_string).or_else(|| unit(line));
        lines.extend(block.text.lines().filter_map(typed));
    }
    let mut found = Vec::new();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        for (index, word) in words.iter().enumerate() {
            let before = index.checked_sub(1).map(|index| words[index]);
            let command = matches!(before, None | Some("sudo" | "|" | "&&" | ";"));
            if command && word.rsplit('/').next() == Some("hostctl") {
                let rest = words[index + 1..]
                    .iter()
                    .take_while(|word| !matches!(**word, "|" | "&&" | ";" | "--" | "#"));
                found.push(rest.map(|word| (*word).to_string()).collect());
            }
        }
    }
    found
}

#[test]
fn every_command_in_the_documentation_exists() {
    let commands = cli::commands();
    let mut seen = 0;
    for page in pages().iter().filter(|page| !page.path.ends_with("cli.md")) {
        for words in invocations(page) {
            let plain: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
            if plain.is_empty() {
                continue;
            }
            let place = format!("{}: hostctl {}", page.path.display(), words.join(" "));
            let known = |length: usize| {
                commands.iter().find(|help| {
                    help.path.len() == length
                        && plain.iter().zip(&help.path).all(|(a, b)| *a == b)
                        && plain.len() >= length
                })
            };
            let help = known(2).or_else(|| known(1)).unwrap_or_else(|| panic!("{place}: no such command"));
            // `vm` alone names the group; `vm something` has to be a command.
            let group = help.is_group() && plain.get(1).is_some_and(|word| *word != "…");
            assert!(!group, "{place}: no such command");
            for option in words.iter().filter(|word| word.starts_with("--")) {
                let option = option.split('=').next().unwrap();
                assert!(help.takes(option), "{place}: no option {option}");
            }
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} commands were found");
}

#[test]
fn every_promise_has_a_test_that_exists() {
    let page = page("SPECIFICATION.md");
    let mut expected = 1;
    // A promise begins with its number at the margin and goes on indented.
    let mut promises: Vec<String> = Vec::new();
    for line in page.text.lines() {
        let number = line.split_once(". ").and_then(|(number, _)| number.parse::<u32>().ok());
        if let Some(number) = number {
            assert_eq!(number, expected, "promises are numbered without gaps");
            expected += 1;
            promises.push(line.to_string());
        } else if line.starts_with("   ")
            && let Some(promise) = promises.last_mut()
        {
            promise.push(' ');
            promise.push_str(line.trim());
        }
    }
    assert!(promises.len() >= 20, "only {} promises were found", promises.len());
    for promise in promises {
        let spans = promise.split('`').skip(1).step_by(2);
        let tests: Vec<(&str, &str)> = spans.filter_map(|span| span.split_once(".rs: ")).collect();
        assert!(!tests.is_empty(), "no test enforces: {promise}");
        for (file, name) in tests {
            let file = format!("{file}.rs");
            let text = fs::read_to_string(top().join(&file));
            let text = text.unwrap_or_else(|error| panic!("{file}: {error}, in: {promise}"));
            let at = text.find(&format!("fn {name}("));
            let at = at.unwrap_or_else(|| panic!("{file} has no {name}, in: {promise}"));
            let before = text[..at].rfind("#[").map_or("", |start| &text[start..at]);
            assert!(before.contains("test]"), "{file}: {name} is no test, in: {promise}");
        }
    }
}

#[test]
fn the_readme_names_both_commands() {
    let text = page("README.md").text;
    for command in ["make demo", "make test"] {
        assert!(text.contains(command), "README.md doesn't name {command}");
    }
}
