//! Points in time, as people read them.

use paxfs_format::time::Timestamp;

const DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;
/// Days of 400 years.
const ERA: i64 = 146_097;

/// A time in UTC, `YYYY-MM-DD hh:mm:ss.nnnnnnnnn`; as `@SECONDS` when the year is not one of four digits.
pub fn utc(time: &Timestamp) -> String {
    let (seconds, nanoseconds) = (time.seconds.get(), time.nanoseconds.get());
    let (day, second) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, date) = civil(day);
    if !(0..=9999).contains(&year) {
        return format!("@{seconds}.{nanoseconds:09}");
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02}.{nanoseconds:09}")
}

/// Year, month and day of a day counted from 1970-01-01. After Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms" (2021).
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day.saturating_add(EPOCH);
    let (era, day) = (day.div_euclid(ERA), day.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March on.
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        let at = |seconds, nanoseconds| utc(&Timestamp::new(seconds, nanoseconds));
        assert_eq!(at(0, 0), "1970-01-01 00:00:00.000000000");
        assert_eq!(at(-1, 999_999_999), "1969-12-31 23:59:59.999999999");
        assert_eq!(at(951_782_400, 5), "2000-02-29 00:00:00.000000005");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28 23:59:59.000000000");
        assert_eq!(at(i64::MAX, 7), "@9223372036854775807.000000007");
        assert_eq!(at(i64::MIN, u32::MAX), "@-9223372036854775808.4294967295");
    }
}
