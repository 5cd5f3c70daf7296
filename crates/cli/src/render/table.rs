//! Columns of equal width; the last has no padding. What people copy (ids,
//! digests) is whole everywhere. Words in the last column are folded or cut
//! where a terminal is too narrow for them.

use super::clean::one_line;
use super::screen::{Screen, cut, wrap};

/// Narrower than this or than a word in it, the last column stands below its
/// row instead.
const LAST_MIN: usize = 20;
/// How far it is indented there.
const BELOW: usize = 4;

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// What becomes of a last cell that is too long for a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Long {
    Folded,
    Cut,
}

pub(crate) struct Table {
    screen: Screen,
    long: Long,
    header: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Columns by their titles; one that begins with `>` stands to the right.
    pub(crate) fn new<const N: usize>(screen: Screen, titles: [&'static str; N]) -> Self {
        let column = |title: &'static str| match title.strip_prefix('>') {
            Some(title) => (title, Align::Right),
            None => (title, Align::Left),
        };
        Self { screen, long: Long::Folded, header: titles.map(column).to_vec(), rows: Vec::new() }
    }

    /// Keeps to one line a row: the rest is to be seen elsewhere.
    pub(crate) fn cut(mut self) -> Self {
        self.long = Long::Cut;
        self
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| one_line(&cell)).to_vec());
    }

    pub(crate) fn render(&self) -> String {
        let titles: Vec<String> = self.header.iter().map(|(title, _)| (*title).to_owned()).collect();
        let lines = || std::iter::once(&titles).chain(&self.rows);
        let widths: Vec<usize> = (0..titles.len())
            .map(|at| lines().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let before_last: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
        let last = match self.screen.width().map(|all| (all, all.saturating_sub(before_last))) {
            None => Last::Whole,
            Some((_, room)) if self.fits_beside(room) => Last::Beside(room),
            Some((all, _)) => Last::Below(all.saturating_sub(BELOW)),
        };
        let mut out = String::new();
        for (number, row) in lines().enumerate() {
            let mut line = String::new();
            let mut below = String::new();
            for (at, ((cell, width), (_, align))) in row.iter().zip(&widths).zip(&self.header).enumerate() {
                match (align, last) {
                    (Align::Right, _) => line.push_str(&format!("{cell:>width$}  ")),
                    (Align::Left, Last::Beside(room)) if at + 1 == row.len() => {
                        line.push_str(&self.fitted(cell, room, before_last));
                    }
                    // Under the titles it would need one of its own.
                    (Align::Left, Last::Below(_)) if at + 1 == row.len() && (number == 0 || cell.is_empty()) => {}
                    (Align::Left, Last::Below(room)) if at + 1 == row.len() => {
                        below = format!("{:BELOW$}{}\n", "", self.fitted(cell, room, BELOW));
                    }
                    (Align::Left, _) => line.push_str(&format!("{cell:<width$}  ")),
                }
            }
            out.push_str(line.trim_end());
            out.push('\n');
            out.push_str(&below);
        }
        out
    }

    /// A word is never broken, so it must fit too.
    fn fits_beside(&self, room: usize) -> bool {
        let last = self.rows.iter().filter_map(|row| row.last());
        let mut words = last.clone().flat_map(|cell| cell.split(' '));
        last.clone().all(|cell| cell.chars().count() <= room)
            || room >= LAST_MIN && (self.long == Long::Cut || words.all(|word| word.chars().count() <= room))
    }

    /// A cell in so much room, `before` columns from the left.
    fn fitted(&self, cell: &str, room: usize, before: usize) -> String {
        match self.long {
            Long::Cut => cut(cell, room),
            Long::Folded => wrap(cell, room).join(&format!("\n{:before$}", "")),
        }
    }
}

/// Where the last column stands, and its width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Whole,
    Beside(usize),
    Below(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_is_cut() {
        let mut table = Table::new(Screen::PIPE, ["NAME", ">SIZE", "REASON"]);
        table.row(["digits".into(), "1.2 MiB".into(), String::new()]);
        table.row(["a".into(), "9 B".into(), "waits for\n\x1b[1mcpu=2".into()]);
        assert_eq!(
            table.render(),
            "NAME       SIZE  REASON\n\
             digits  1.2 MiB\n\
             a           9 B  waits for [1mcpu=2\n"
        );
    }

    #[test]
    fn long_words_are_folded_or_cut_for_a_terminal() {
        let table = || {
            let mut table = Table::new(Screen::terminal(40), ["ID", ">COST", "REASON"]);
            table.row(["digits".into(), "$1.00".into(), "there is no room for it on the machine".into()]);
            table
        };
        assert_eq!(
            table().render(),
            "ID       COST  REASON\n\
             digits  $1.00  there is no room for it\n               on the machine\n"
        );
        assert_eq!(table().cut().render(), "ID       COST  REASON\ndigits  $1.00  there is no room for it…\n");
    }

    #[test]
    fn words_stand_below_where_there_is_no_room_beside() {
        let mut table = Table::new(Screen::terminal(40), ["NUMBER", "RESOURCES", "REASON"]);
        table.row(["1".into(), "cpu=250m memory=256Mi".into(), String::new()]);
        table.row(["2".into(), "cpu=250m memory=256Mi".into(), "there is no model in it that could be served".into()]);
        assert_eq!(
            table.render(),
            "NUMBER  RESOURCES
1       cpu=250m memory=256Mi
2       cpu=250m memory=256Mi
    there is no model in it that could
    be served
"
        );
    }
}
