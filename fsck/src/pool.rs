//! Work in parallel, findings in order.
//!
//! Jobs are numbered. Threads take them in that order; what each job found is handed on in that order too, whichever
//! ends first, so that the same image gives the same report. Findings of jobs that ended early wait; they are few,
//! because only jobs right behind one that is still running can have ended.
//!
//! The caller's thread hands on the findings and does no work of its own; with one thread it does all.

use crate::finding::Finding;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

/// Bytes of a worker's stack: nothing here recurses.
const STACK: usize = 256 << 10;
/// Findings of how many jobs may wait in the channel for each thread.
const BACKLOG: usize = 4;

/// How work is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pool<'c> {
    pub threads: usize,
    pub cancel: Option<&'c AtomicBool>,
}

impl Pool<'_> {
    /// Whether somebody wants it to end.
    pub fn cancelled(&self) -> bool {
        self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed))
    }

    /// Does `work` for each number below `jobs`, each thread with a state of its own, and gives all states back.
    /// `deliver` gets, in order, how many jobs are done and what the last of them found.
    pub fn run<S: Send>(
        &self,
        jobs: usize,
        state: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, usize) -> Vec<Finding> + Sync,
        deliver: &mut dyn FnMut(usize, Vec<Finding>),
    ) -> Vec<S> {
        let threads = self.threads.min(jobs);
        if threads <= 1 {
            return vec![self.alone(jobs, state(), work, deliver)];
        }
        let next = AtomicUsize::new(0);
        let (next, state, work) = (&next, &state, &work);
        thread::scope(|scope| {
            let (sender, receiver) = sync_channel(threads * BACKLOG);
            let workers: Vec<_> = (0..threads)
                .filter_map(|_| {
                    let sender = sender.clone();
                    let body = move || {
                        let mut state = state();
                        loop {
                            let job = next.fetch_add(1, Ordering::Relaxed);
                            if job >= jobs || self.cancelled() {
                                return state;
                            }
                            let found = work(&mut state, job);
                            if sender.send((job, found)).is_err() {
                                return state;
                            }
                        }
                    };
                    thread::Builder::new().stack_size(STACK).spawn_scoped(scope, body).ok()
                })
                .collect();
            drop(sender);
            if workers.is_empty() {
                // No thread could be had: so be it.
                return vec![self.alone(jobs, state(), work, deliver)];
            }
            hand_on(&receiver, deliver);
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect()
        })
    }

    fn alone<S>(
        &self,
        jobs: usize,
        mut state: S,
        work: impl Fn(&mut S, usize) -> Vec<Finding>,
        deliver: &mut dyn FnMut(usize, Vec<Finding>),
    ) -> S {
        for job in 0..jobs {
            if self.cancelled() {
                break;
            }
            let found = work(&mut state, job);
            deliver(job.saturating_add(1), found);
        }
        state
    }
}

/// Hands on in order what comes in any order.
fn hand_on(receiver: &Receiver<(usize, Vec<Finding>)>, deliver: &mut dyn FnMut(usize, Vec<Finding>)) {
    let mut done = 0;
    let mut waiting = BTreeMap::new();
    for (job, found) in receiver {
        waiting.insert(job, found);
        while let Some(found) = waiting.remove(&done) {
            done = done.saturating_add(1);
            deliver(done, found);
        }
    }
    // After a cancellation some numbers are missing.
    for (job, found) in waiting {
        deliver(job, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Problem;

    fn finding(job: usize) -> Vec<Finding> {
        vec![Finding::new(format!("inode[{job}]"), Problem::BlockTwice { block: 0 })]
    }

    #[test]
    fn findings_come_in_the_order_of_jobs() {
        for threads in [1, 2, 7] {
            let pool = Pool { threads, cancel: None };
            let mut paths = Vec::new();
            let states = pool.run(
                100,
                || 0,
                |count, job| {
                    *count += 1;
                    if job % 7 == 0 {
                        thread::sleep(std::time::Duration::from_millis(1));
                    }
                    finding(job)
                },
                &mut |_, found| paths.extend(found.into_iter().map(|finding| finding.at)),
            );
            assert_eq!(states.iter().sum::<i32>(), 100);
            assert!(paths.iter().cloned().eq((0..100).map(|job| format!("inode[{job}]"))));
        }
    }

    #[test]
    fn a_cancelled_pool_ends() {
        let cancel = AtomicBool::new(true);
        let pool = Pool { threads: 2, cancel: Some(&cancel) };
        let states = pool.run(
            1000,
            || 0,
            |count, job| {
                *count += 1;
                finding(job)
            },
            &mut |_, _| (),
        );
        assert_eq!(states.iter().sum::<i32>(), 0);
    }
}
