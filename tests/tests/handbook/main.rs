//! The handbook keeps its word: the examples of every page run, in order, in one shell against a server of their own,
//! and answer what the page says that they answer.
//!
//! In a page, ```` ```sh run ```` is run; ```` ```sh run fails ```` must end with another status than 0; a block of `text`
//! or `json` with `expect` must match what the last such block printed (`expect.rs`). A shell block that needs what a
//! test has not, says `elsewhere`. `OBOL_PAGE=auth/ldap` tests one page.
#![allow(clippy::unwrap_used)]

mod expect;
mod page;
mod shell;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use page::Page;

#[test]
fn every_example_does_what_its_page_says() {
    let wanted = std::env::var("OBOL_PAGE").ok();
    let pages: Vec<Page> = pages_in_the_summary()
        .into_iter()
        .filter(|name| {
            wanted
                .as_ref()
                .is_none_or(|wanted| name.trim_end_matches(".md") == wanted)
        })
        .map(|name| Page::read(&source(), &name).unwrap_or_else(|error| panic!("{error}")))
        .collect();
    assert!(!pages.is_empty(), "there is no page {wanted:?}");
    let next = AtomicUsize::new(0);
    let faults = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(page) = pages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(fault) = shell::run(page) {
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "\n{}", faults.join("\n\n"));
}

#[test]
fn every_page_is_in_the_summary_and_every_link_leads_somewhere() {
    let listed: BTreeSet<String> = pages_in_the_summary().into_iter().collect();
    let mut found = BTreeSet::new();
    let mut broken = Vec::new();
    for file in markdown_below(&source()) {
        let name = file.strip_prefix(source()).unwrap().display().to_string();
        if name == "SUMMARY.md" || name.starts_with("reference/") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        for link in links(&text) {
            let (target, _) = link.split_once('#').unwrap_or((&link, ""));
            if !target.contains("://")
                && !target.is_empty()
                && !file.parent().unwrap().join(target).exists()
            {
                broken.push(format!("{name}: {link}"));
            }
        }
        found.insert(name);
    }
    assert_eq!(found, listed, "pages there are, and pages in SUMMARY.md");
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_generated_reference_has_a_page() {
    let pages: Vec<String> = pages_in_the_summary()
        .iter()
        .map(|name| fs::read_to_string(source().join(name)).unwrap())
        .collect();
    for file in markdown_below(&source().join("reference")) {
        let name = file.file_name().unwrap().to_str().unwrap();
        let include = format!("reference/{name}}}}}");
        assert!(
            pages.iter().any(|page| page.contains(&include)),
            "no page includes reference/{name}"
        );
    }
}

fn source() -> PathBuf {
    PathBuf::from("../api-docs/handbook/src")
}

/// `auth/ldap.md`, ... in the order of the book.
fn pages_in_the_summary() -> Vec<String> {
    let summary = fs::read_to_string(source().join("SUMMARY.md")).unwrap();
    links(&summary)
        .into_iter()
        .map(|link| link.trim_start_matches("./").to_owned())
        .collect()
}

/// What stands in the round brackets of `[..](..)`, outside of code.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        for part in line.split("](").skip(1) {
            if let Some((link, _)) = part.split_once(')') {
                found.push(link.to_owned());
            }
        }
    }
    found
}

fn markdown_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(markdown_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Pages under test at the same time; most of it is waiting.
const AT_ONCE: usize = 4;
