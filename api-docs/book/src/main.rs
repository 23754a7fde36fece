//! Builds the handbook's HTML: `obol-handbook BOOK OUT`, as `make docs` does. What is left of an include that leads
//! nowhere is an error here, and not a line in a log.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mdbook_driver::MDBook;
use mdbook_driver::book::BookItem;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(book), Some(out)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: obol-handbook BOOK OUT");
        return ExitCode::from(2);
    };
    match build(&book, &out) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("handbook: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build(root: &Path, out: &Path) -> Result<(), String> {
    let mut book = MDBook::load(root).map_err(|error| format!("{error:#}"))?;
    book.config.build.build_dir = std::path::absolute(out).map_err(|error| error.to_string())?;
    book.build().map_err(|error| format!("{error:#}"))?;
    for item in book.iter() {
        let BookItem::Chapter(chapter) = item else {
            continue;
        };
        let Some(path) = &chapter.path else {
            return Err(format!("{}: the chapter has no page", chapter.name));
        };
        let page = out.join(path).with_extension("html");
        // The first page of a folder is its index.
        let page = match path.file_stem() {
            Some(stem) if stem == "README" => page.with_file_name("index.html"),
            _ => page,
        };
        let html = std::fs::read_to_string(&page)
            .map_err(|error| format!("{}: {error}", page.display()))?;
        if html.contains("{{#include") {
            return Err(format!("{}: an include leads nowhere", path.display()));
        }
    }
    Ok(())
}
