//! Writes what is generated below `api-docs/`, as `make docs` does: `documents DIR`.
//!
//! `openapi.json` is the API for programs; `handbook/src/reference/*.md` is the same for people, one file for each page
//! of the handbook (`pages.rs` says which paths of `sys/` belong to which), laid out by the templates beside this file.

mod pages;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use handlebars::{Handlebars, no_escape};
use obol_mount::{OperationReference, PathReference};
use pages::Page;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: documents DIR");
        return ExitCode::from(2);
    };
    match write_all(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("documents: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write_all(dir: &Path) -> Result<(), Box<dyn Error>> {
    let document = obol::core::openapi_of_everything()?;
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    fs::create_dir_all(dir)?;
    fs::write(dir.join("openapi.json"), text)?;

    let reference = dir.join("handbook/src/reference");
    fs::create_dir_all(&reference)?;
    let templates = templates()?;
    for page in pages::pages()? {
        let text = templates.render("paths", &view(&page))?;
        fs::write(reference.join(format!("{}.md", page.name)), text)?;
    }
    let commands: Vec<Value> = obol::cli::manual()
        .into_iter()
        .map(|(name, help)| json!({ "name": name, "help": help.trim_end() }))
        .collect();
    let text = templates.render("commands", &json!({ "commands": commands }))?;
    fs::write(reference.join("commands.md"), text)?;
    Ok(())
}

fn templates() -> Result<Handlebars<'static>, Box<dyn Error>> {
    let mut templates = Handlebars::new();
    templates.set_strict_mode(true);
    templates.register_escape_fn(no_escape);
    templates.register_template_string("paths", include_str!("paths.md.hbs"))?;
    templates.register_template_string("commands", include_str!("commands.md.hbs"))?;
    Ok(templates)
}

/// A page as its template wants it: texts that are ready for a table.
fn view(page: &Page) -> Value {
    let paths: Vec<Value> = page
        .paths
        .iter()
        .map(|path| {
            let verbs: Vec<&str> = path.operations.iter().map(|o| o.verb).collect();
            json!({
                "path": path.path,
                "about": cell(path.about.trim_end_matches('.')),
                "callers": path.callers,
                "verbs": verbs.join(" "),
                "operations": path.operations.iter().map(|o| operation(path, o)).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "paths": paths })
}

fn operation(path: &PathReference, operation: &OperationReference) -> Value {
    let fields: Vec<Value> = operation
        .fields
        .iter()
        .map(|field| {
            let names: Vec<String> = std::iter::once(&field.name)
                .chain(&field.aliases)
                .map(|name| format!("`{name}`"))
                .collect();
            json!({
                "names": names.join(", "),
                "kind": field.kind,
                "required": if field.required { ", required" } else { "" },
                "about": cell(&field.about),
            })
        })
        .collect();
    let answer: Vec<String> = operation
        .answer
        .iter()
        .map(|field| format!("`{}`", field.name))
        .collect();
    json!({
        "verb": operation.verb,
        "capability": match (operation.verb, path.tells_create) {
            ("POST", true) => "create` or `update",
            _ => operation.capability,
        },
        "has_fields": !fields.is_empty(),
        "fields": fields,
        "answer": match (operation.status, operation.gives_token) {
            (_, true) => "Answers with a token, in `auth`.".to_owned(),
            (204, _) => "Answers 204, without a body.".to_owned(),
            (refused @ 400.., _) => format!("Always refused, with {refused}."),
            _ if answer.is_empty() => String::new(),
            _ => format!("Answers {}.", answer.join(", ")),
        },
        "takes_any": if operation.takes_any { "Takes any fields." } else { "" },
    })
}

/// A text for a cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}
