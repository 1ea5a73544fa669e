//! What came out in the guest. The form of its lines is told in `runtime/examples/guest/report.rs`.

use anyhow::{Context, Result, bail, ensure};
use std::fmt;

/// All that the guest said.
#[derive(Debug)]
pub struct Report<'a> {
    said: Vec<&'a str>,
    rows: Vec<Row<'a>>,
    failed: Option<&'a str>,
    /// How many lines the guest says that it sent, once it is done.
    sent: Option<usize>,
}

/// One case.
#[derive(Debug)]
struct Row<'a> {
    case: &'a str,
    promised: &'a str,
    paxfs: &'a str,
    /// Empty where it has no part in the case.
    xfs: &'a str,
}

impl<'a> Report<'a> {
    /// Reads the guest's lines.
    pub fn parse(lines: &'a str) -> Result<Self> {
        let mut report = Report { said: Vec::new(), rows: Vec::new(), failed: None, sent: None };
        for line in lines.lines() {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                ["say", ..] => report.said.push(line.strip_prefix("say\t").unwrap_or_default()),
                ["row", case, promised, paxfs, xfs] => report.rows.push(Row { case, promised, paxfs, xfs }),
                ["failed", why] => report.failed = Some(why),
                ["end", lines] => report.sent = Some(lines.parse().context("how many lines it sent")?),
                _ => bail!("the guest says what nobody understands: {line}"),
            }
        }
        Ok(report)
    }

    /// Fails unless the guest came to its end, and all came here that it sent.
    pub fn complete(&self) -> Result<()> {
        if let Some(why) = self.failed {
            bail!("the guest gave up: {why}");
        }
        let sent = self.sent.context("the guest ended before it was done")?;
        let came = self.said.len() + self.rows.len();
        ensure!(came == sent, "of {sent} lines that the guest sent {came} came");
        Ok(())
    }

    /// Fails unless paxfs did all that is promised. What XFS does is not judged.
    pub fn judge(&self) -> Result<()> {
        let wrong: Vec<&str> =
            self.rows.iter().filter(|row| row.paxfs != row.promised).map(|row| row.case).collect();
        ensure!(wrong.is_empty(), "paxfs did not do what is promised: {}", wrong.join("; "));
        Ok(())
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.said {
            writeln!(f, "{line}")?;
        }
        let cells = self.rows.iter().map(Row::cells);
        let table: Vec<[String; 3]> =
            std::iter::once(["case", "paxfs", "XFS"].map(str::to_owned)).chain(cells).collect();
        let width = |cell: fn(&[String; 3]) -> &str| {
            table.iter().map(|cells| cell(cells).chars().count()).max().unwrap_or(0)
        };
        let (first, second) = (width(|[case, ..]| case), width(|[_, paxfs, _]| paxfs));
        writeln!(f)?;
        for [case, paxfs, xfs] in &table {
            writeln!(f, "{}", format!("{case:first$}  {paxfs:second$}  {xfs}").trim_end())?;
        }
        Ok(())
    }
}

impl Row<'_> {
    fn cells(&self) -> [String; 3] {
        let paxfs = if self.paxfs == self.promised {
            self.paxfs.to_owned()
        } else {
            format!("{}, NOT {}", self.paxfs, self.promised)
        };
        let xfs = if self.xfs == self.promised { "the same" } else { self.xfs };
        [self.case.to_owned(), paxfs, xfs.to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_is_promised_where_it_was_not_kept() {
        let lines = "say\tLinux\r\nrow\tfirst\tzeros\tzeros\tzeros\r\nrow\t2nd\tzeros\t0xa5\tzeros\nend\t3\n";
        let report = Report::parse(lines).unwrap();
        let text = "Linux\n\ncase   paxfs            XFS\nfirst  zeros            the same\n2nd    0xa5, NOT zeros  the same\n";
        assert_eq!(report.to_string(), text);
        report.complete().unwrap();
        assert_eq!(report.judge().unwrap_err().to_string(), "paxfs did not do what is promised: 2nd");
    }

    #[test]
    fn a_guest_that_does_not_say_that_it_is_done_is_not() {
        let complete = |lines| Report::parse(lines).unwrap().complete().unwrap_err().to_string();
        assert_eq!(complete("say\tLinux\n"), "the guest ended before it was done");
        assert_eq!(complete("failed\tno device\n"), "the guest gave up: no device");
        assert_eq!(complete("say\tLinux\nend\t3\n"), "of 3 lines that the guest sent 1 came");
        assert!(Report::parse("row\tfirst\n").is_err() && Report::parse("end\n").is_err());
    }
}
