//! What the lines of a requirements file refer to on this machine, as pip
//! reads them.

/// A place that a file refers to, as it is written there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reference {
    /// Another file of requirements or constraints.
    Include(String),
    /// A folder of packages, or a page of links to some.
    Links(String),
    /// A package.
    Package(String),
    /// A folder to be installed in place.
    Editable(String),
}

const ARCHIVES: [&str; 7] = [".whl", ".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"];
type Make = fn(String) -> Reference;

/// Options that name a place, short and long.
const OPTIONS: [(&str, &str, Make); 4] = [
    ("-r", "--requirement", Reference::Include),
    ("-c", "--constraint", Reference::Include),
    ("-f", "--find-links", Reference::Links),
    ("-e", "--editable", Reference::Editable),
];

pub(crate) fn references(text: &str) -> Vec<Reference> {
    lines(text).iter().flat_map(|line| if line.starts_with('-') { of_options(line) } else { of_line(line) }).collect()
}

/// The path of a package that is asked for by one; none for those by name or
/// by an address elsewhere.
pub(crate) fn local_package(requirement: &str) -> Option<&str> {
    let end = [" --", "\t--", " ;", "\t;"].iter().filter_map(|mark| requirement.find(mark)).min();
    let whole = requirement[..end.unwrap_or(requirement.len())].trim();
    let of_name = |c: char| c.is_ascii_alphanumeric() || "._-[], \t".contains(c);
    let place = match whole.split_once('@') {
        Some((name, place)) if !name.is_empty() && name.chars().all(of_name) => place.trim(),
        _ => whole,
    };
    if is_file_url(place) {
        return Some(place);
    }
    let path = place.split(';').next().unwrap_or(place).trim();
    let path = if path.ends_with(']') { path.rsplit_once('[').map_or(path, |(path, _)| path) } else { path };
    let is_path = path.starts_with(['.', '~']) || path.contains('/') || ARCHIVES.iter().any(|end| path.ends_with(end));
    (is_path && !path.contains("://")).then_some(path)
}

/// Also of a repository, as in `git+file:///x`.
fn is_file_url(place: &str) -> bool {
    place.split_once(':').is_some_and(|(scheme, _)| scheme == "file" || scheme.ends_with("+file"))
}

fn of_line(line: &str) -> Vec<Reference> {
    local_package(line).map(|path| Reference::Package(path.to_owned())).into_iter().collect()
}

fn of_options(line: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut words = words(line).into_iter();
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) if word.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
            None | Some(_) if word.starts_with('-') && !word.starts_with("--") && word.is_char_boundary(2) => {
                let (flag, value) = word.split_at(2);
                (flag.to_owned(), (!value.is_empty()).then(|| value.trim_start_matches('=').to_owned()))
            }
            _ => (word, None),
        };
        // pip takes any beginning of a long option that is no other's.
        let is = |short: &str, long: &str| flag == short || (flag.len() > 4 && long.starts_with(&flag));
        let Some((.., make)) = OPTIONS.iter().find(|(short, long, _)| is(short, long)) else { continue };
        let Some(value) = value.or_else(|| words.next()) else { break };
        if is_file_url(&value) || !value.contains("://") {
            found.push(make(value));
        }
    }
    found
}

/// Lines without comments; one that ends with a backslash goes on.
fn lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut whole = String::new();
    for line in text.lines() {
        match line.strip_suffix('\\').filter(|_| !line.trim_start().starts_with('#')) {
            Some(start) => whole.push_str(start),
            None => {
                whole.push_str(line);
                lines.push(std::mem::take(&mut whole));
            }
        }
    }
    lines.push(whole);
    let comment = |line: &str| {
        let mut before = ' ';
        line.char_indices().find_map(|(at, c)| {
            let begins = c == '#' && before.is_whitespace();
            before = c;
            begins.then_some(at)
        })
    };
    lines.iter().map(|l| l[..comment(l).unwrap_or(l.len())].trim().to_owned()).filter(|l| !l.is_empty()).collect()
}

/// As a shell would split the line.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_name_a_place_is_found() {
        let include = |text: &str| Reference::Include(text.into());
        let package = |text: &str| Reference::Package(text.into());
        for (line, expected) in [
            ("-r a.txt", include("a.txt")),
            ("-ra.txt # why", include("a.txt")),
            ("--requirement=a.txt", include("a.txt")),
            ("--constr 'b c.txt'", include("b c.txt")),
            ("--pre -c \\\n c.txt", include("c.txt")),
            ("-r file:///x/a.txt", include("file:///x/a.txt")),
            ("--find-links ./wheels", Reference::Links("./wheels".into())),
            ("-e .", Reference::Editable(".".into())),
            ("--editable=./pkg", Reference::Editable("./pkg".into())),
            ("./x-1-py3-none-any.whl ; python_version > '3'", package("./x-1-py3-none-any.whl")),
            ("x-1.tar.gz --hash=sha256:00", package("x-1.tar.gz")),
            ("./pkg[extra]", package("./pkg")),
            ("../lib", package("../lib")),
            ("lib/pkg", package("lib/pkg")),
            ("x[a] @ file:///w/x.whl", package("file:///w/x.whl")),
            ("x@./x.whl", package("./x.whl")),
            ("git+file:///x", package("git+file:///x")),
        ] {
            assert_eq!(references(line), [expected], "{line}");
        }
    }

    #[test]
    fn packages_by_name_and_by_address_are_no_places() {
        for line in [
            "numpy",
            "numpy>=1,<2 ; sys_platform == 'linux' # ./x",
            "# -r a.txt",
            "-e git+https://example.org/x.git",
            "x @ https://example.org/x-1-py3-none-any.whl",
            "https://example.org/x.tar.gz",
            "-c https://example.org/constraints.txt",
            "--extra-index-url https://example.org/simple",
            "--require-hashes",
            "--no-index",
        ] {
            assert_eq!(references(line), [], "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}(\n[-@.'\\\\#;= \\PC]{0,20}){0,3}") {
            references(&text);
        }
    }
}
