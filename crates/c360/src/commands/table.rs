//! Tables on a page of text.

use status::words::printable;

/// Lines of cells, columns as wide as they have to be. What other systems named has no control characters.
pub(super) fn table(lines: Vec<Vec<String>>) -> String {
    let lines: Vec<Vec<String>> =
        lines.into_iter().map(|line| line.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}
