//! Links between the pages of the documentation: that the files are there, and the headings. In the sources, and where the package
//! puts them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// The pages: those in `root` itself (README and its like), and all below its `docs`.
pub fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = markdown(root, &mut Vec::new());
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        pages.extend(markdown(&folder, &mut folders));
    }
    pages.sort();
    pages
}

/// The pages of a folder; the folders in it are added to `folders`.
fn markdown(folder: &Path, folders: &mut Vec<PathBuf>) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder of pages can be read");
    let paths: Vec<_> = entries.map(|entry| entry.expect("an entry can be read").path()).collect();
    folders.extend(paths.iter().filter(|path| path.is_dir()).cloned());
    paths.into_iter().filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "md")).collect()
}

/// What leads nowhere, a sentence each.
pub fn dead(root: &Path) -> Vec<String> {
    let pages = pages(root);
    let texts: BTreeMap<PathBuf, String> = pages
        .iter()
        .map(|page| (page.clone(), prose(&fs::read_to_string(page).expect("a page can be read"))))
        .collect();
    let anchors: BTreeMap<&PathBuf, BTreeSet<String>> =
        texts.iter().map(|(page, text)| (page, headings(text))).collect();
    let mut dead = Vec::new();
    let mut seen = 0;
    for (page, text) in &texts {
        let shown = page.strip_prefix(root).unwrap_or(page).display();
        for target in targets(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
            let path = if file.is_empty() { page.clone() } else { plain(&page.parent().unwrap_or(root).join(file)) };
            if !path.exists() {
                dead.push(format!("{shown}: there is no {target}"));
            } else if let Some(anchor) = anchor
                && !anchors.get(&path).is_some_and(|there| there.contains(anchor))
            {
                dead.push(format!("{shown}: {target}: no heading of that page is #{anchor}"));
            }
        }
    }
    assert!(seen > 50, "the links were not found: {seen}");
    dead
}

/// Without blocks of code, whose lines begin as headings do.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

/// The targets of `[text](target)`, which may stand over two lines.
fn targets(text: &str) -> Vec<&str> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .map(|target| target.split(' ').next().unwrap_or(target))
        .collect()
}

/// The anchors that GitHub makes of headings.
fn headings(text: &str) -> BTreeSet<String> {
    let mut anchors: BTreeSet<String> = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with('#')) {
        let title = line.trim_start_matches('#').trim();
        // Of a link in a heading, its text counts.
        let title: String = title
            .split("](")
            .enumerate()
            .map(|(n, part)| if n == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) })
            .collect();
        let mut anchor = String::new();
        for character in title.chars() {
            match character {
                ' ' => anchor.push('-'),
                '-' | '_' => anchor.push(character),
                other if other.is_alphanumeric() => anchor.extend(other.to_lowercase()),
                _ => {}
            }
        }
        let mut unique = anchor.clone();
        let mut number = 0;
        while !anchors.insert(unique.clone()) {
            number += 1;
            unique = format!("{anchor}-{number}");
        }
    }
    anchors
}

/// Without `..`, so that paths can be compared.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}
