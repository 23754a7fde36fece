//! A page as the test reads it: its shell blocks, and what each is expected to print.

use std::fs;
use std::path::Path;

pub(crate) struct Page {
    /// `auth/ldap.md`.
    pub(crate) name: String,
    pub(crate) stage: Stage,
    pub(crate) blocks: Vec<Block>,
}

/// What the examples run against; a page says it in a comment `<!-- examples: ... -->`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A development server and its root token.
    Dev,
    /// A server that is not initialized, with its data on disk.
    NewServer,
    /// An unsealed server with its data on disk, and its root token.
    OnDisk,
    /// An unsealed server with its root token, in a Kerberos realm with an LDAP directory.
    Realm,
}

/// A shell block.
pub(crate) struct Block {
    /// The line of its opening fence, counted from 1.
    pub(crate) line: usize,
    pub(crate) text: String,
    /// Its last command must fail.
    pub(crate) fails: bool,
    pub(crate) expected: Option<Expected>,
}

pub(crate) struct Expected {
    pub(crate) line: usize,
    pub(crate) text: String,
    pub(crate) json: bool,
}

impl Page {
    pub(crate) fn read(source: &Path, name: &str) -> Result<Self, String> {
        let text =
            fs::read_to_string(source.join(name)).map_err(|error| format!("{name}: {error}"))?;
        let mut page = Self {
            name: name.to_owned(),
            stage: Stage::Dev,
            blocks: Vec::new(),
        };
        let mut open: Option<(usize, String, String)> = None;
        for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(info)) => open = Some((number, info.trim().to_owned(), String::new())),
                (Some(_), Some("")) => {
                    if let Some((line, info, text)) = open.take() {
                        page.block(line, &info, text)?;
                    }
                }
                (Some((_, _, text)), _) => {
                    text.push_str(line);
                    text.push('\n');
                }
                (None, None) => page.prose(number, line)?,
            }
        }
        match open {
            Some((line, ..)) => Err(format!("{name}:{line}: the block does not end")),
            None => Ok(page),
        }
    }

    fn prose(&mut self, number: usize, line: &str) -> Result<(), String> {
        let stage = line
            .strip_prefix("<!-- examples: ")
            .and_then(|rest| rest.strip_suffix(" -->"));
        if let Some(stage) = stage {
            self.stage = match stage {
                "a new server" => Stage::NewServer,
                "a server on disk" => Stage::OnDisk,
                "a realm" => Stage::Realm,
                _ => return Err(format!("{}:{number}: no stage {stage:?}", self.name)),
            };
        }
        Ok(())
    }

    fn block(&mut self, line: usize, info: &str, text: String) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{}:{line}: {what}", self.name));
        let words: Vec<&str> = info.split(' ').collect();
        match words.as_slice() {
            ["sh", "run"] | ["sh", "run", "fails"] => self.blocks.push(Block {
                line,
                text,
                fails: words.len() == 3,
                expected: None,
            }),
            ["sh", "elsewhere"] => {}
            ["sh", ..] => return wrong("a shell block says `run`, `run fails` or `elsewhere`"),
            [kind @ ("json" | "text"), "expect"] => match self.blocks.last_mut() {
                Some(block) if block.expected.is_none() => {
                    block.expected = Some(Expected {
                        line,
                        text,
                        json: *kind == "json",
                    });
                }
                _ => return wrong("there is no shell block that this is the answer of"),
            },
            _ => {}
        }
        Ok(())
    }

    /// The examples as one script whose lines have the numbers that they have in the page. What a block prints goes
    /// to `$OUT/<line>`, what it complains of to `$OUT/<line>.err`; the line of a failed command to `$OUT/failed`.
    pub(crate) fn script(&self) -> String {
        // The first line of a page is its title.
        let mut lines = vec![format!("set -euo pipefail; {ON_ERROR}")];
        for block in &self.blocks {
            lines.resize(block.line - 1, String::new());
            let out = format!("exec >\"$OUT/{0}\" 2>\"$OUT/{0}.err\"", block.line);
            lines.push(match block.fails {
                false => out,
                true => format!("exec >\"$OUT/{}\" 2>&1; set +e; trap - ERR", block.line),
            });
            lines.extend(block.text.lines().map(str::to_owned));
            lines.push(match block.fails {
                false => String::new(),
                true => format!(
                    "[ $? -ne 0 ] || {{ echo 'this was expected to fail'; echo {} >\"$OUT/failed\"; exit 1; }}; set -e; {ON_ERROR}",
                    block.line
                ),
            });
        }
        lines.push(String::new());
        lines.join("\n")
    }
}

const ON_ERROR: &str = r#"trap 'echo $LINENO >"$OUT/failed"' ERR"#;
