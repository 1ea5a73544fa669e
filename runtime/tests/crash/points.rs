//! Each point where the engine makes stores last or orders them is taken out in turn: somebody must notice. With nothing taken
//! out nobody may.

use crate::alphabet::Op;
use crate::run::{Totals, prepared, record, try_recoveries, try_run};
use paxfs_runtime::medium::{Granularity, Point};

/// When a point is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// While operations run, and the volume is closed.
    InUse,
    /// While what they may leave is recovered.
    InRecovery,
}

use Granularity::{CacheLine, Page};
use When::{InRecovery, InUse};

/// What shows that a point is needed: operations on a volume of so many groups.
type Shown = (Point, When, u64, Granularity, &'static [Op]);

/// For each reason that a point has.
const SHOWN: [Shown; 12] = [
    // Committed by another thread than wrote.
    (Point::Data, InUse, 2, CacheLine, &[Op::WriteNew]),
    (Point::Slot, InUse, 2, Page, &[Op::Create]),
    (Point::Commit, InUse, 2, CacheLine, &[Op::Create, Op::Sync]),
    (Point::Homes, InUse, 2, CacheLine, &[Op::Create, Op::Sync, Op::Append]),
    (Point::Close, InUse, 1, CacheLine, &[Op::Create]),
    // The superblock says it before the journal is healed, too.
    (Point::Close, InUse, 1, CacheLine, &[Op::Create, Op::Sync, Op::LoseSlot]),
    (Point::Closed, InUse, 1, Page, &[Op::Create]),
    (Point::Recovered, InRecovery, 2, CacheLine, &[Op::Create]),
    (Point::Opened, InUse, 2, CacheLine, &[Op::Create]),
    (Point::Mapped, InUse, 2, CacheLine, &[Op::Store, Op::ViewSync]),
    // One is healed after the other.
    (Point::Mended, InUse, 2, CacheLine, &[Op::LoseSuperblocks]),
    // It would look as if a transaction were damaged that is not in its homes.
    (Point::Mended, InUse, 2, CacheLine, &[Op::Create, Op::Sync, Op::LoseSlot]),
];

fn try_without(omitted: Option<Point>, shown: &Shown) -> Result<(), String> {
    let (_, when, groups, granularity, ops) = *shown;
    let start = prepared(groups);
    match when {
        InUse => try_run(&record(&start, ops, granularity, omitted), 12, &mut Totals::default()),
        InRecovery => try_recoveries(&record(&start, ops, granularity, None), omitted, 12),
    }
}

#[test]
fn every_ordering_point_is_needed() {
    for shown in &SHOWN {
        let point = shown.0;
        try_without(None, shown).unwrap_or_else(|error| panic!("{shown:?}, nothing missing: {error}"));
        let error = try_without(Some(point), shown).expect_err("somebody has to notice");
        println!("without {point:?}: {}", error.lines().next().unwrap_or_default());
    }
    for point in Point::ALL {
        assert!(SHOWN.iter().any(|shown| shown.0 == point), "nothing shows that {point:?} is needed");
    }
}
