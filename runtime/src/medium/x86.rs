//! The instructions that make stores last, chosen at run time. On other processors than x86-64 stores go by way of the
//! caches and a fence orders them; there a medium of cache lines is believed only where the platform flushes caches on
//! power loss.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod imp {
    use core::arch::asm;
    use core::arch::x86_64::{
        __cpuid, __cpuid_count, __m128i, _mm_loadu_si128, _mm_sfence, _mm_stream_si64, _mm_stream_si128,
    };
    use std::sync::OnceLock;

    /// How a cache line is written back.
    #[derive(Clone, Copy)]
    enum WriteBack {
        /// CLWB: the line may stay cached.
        Clwb,
        /// CLFLUSHOPT: the line is dropped; flushes run side by side.
        Clflushopt,
        /// CLFLUSH: the line is dropped, one flush after the other.
        Clflush,
    }

    fn best() -> WriteBack {
        static BEST: OnceLock<WriteBack> = OnceLock::new();
        *BEST.get_or_init(|| {
            let leaf7 = if __cpuid(0).eax >= 7 { __cpuid_count(7, 0).ebx } else { 0 };
            if leaf7 >> 24 & 1 != 0 {
                WriteBack::Clwb
            } else if leaf7 >> 23 & 1 != 0 {
                WriteBack::Clflushopt
            } else {
                WriteBack::Clflush
            }
        })
    }

    /// Writes back every cache line that holds one of `length` bytes at `from`.
    ///
    /// # Safety
    ///
    /// The bytes exist.
    pub unsafe fn write_back(from: *const u8, length: usize) {
        let how = best();
        let skew = from.addr() % 64;
        // Lines are aligned and pages are made of whole lines, so the first line's start exists as well.
        let mut line = from.wrapping_sub(skew);
        let end = from.wrapping_add(length);
        while line < end {
            // SAFETY: the line holds a byte of the range, which exists; a write-back changes no contents.
            unsafe {
                match how {
                    WriteBack::Clwb => asm!("clwb [{0}]", in(reg) line, options(nostack, preserves_flags)),
                    WriteBack::Clflushopt => {
                        asm!("clflushopt [{0}]", in(reg) line, options(nostack, preserves_flags));
                    }
                    WriteBack::Clflush => {
                        asm!("clflush [{0}]", in(reg) line, options(nostack, preserves_flags))
                    }
                }
            }
            line = line.wrapping_add(64);
        }
    }

    /// Copies past the caches; edges that are not 16-byte aligned go through them and are written back. An aligned word
    /// is stored whole.
    ///
    /// # Safety
    ///
    /// `length` bytes exist at both, and do not overlap.
    pub unsafe fn copy_nt(to: *mut u8, from: *const u8, length: usize) {
        if length == 8 && to.addr().is_multiple_of(8) {
            // SAFETY: eight bytes exist at both, and the target is aligned.
            unsafe { _mm_stream_si64(to.cast(), from.cast::<i64>().read_unaligned()) };
            return;
        }
        let head = to.align_offset(16).min(length);
        let middle = (length - head) & !15;
        let tail = length - head - middle;
        // SAFETY: all three parts lie within the `length` bytes; the middle of the target is 16-byte aligned.
        unsafe {
            edge(to, from, head);
            let (to, from) = (to.add(head), from.add(head));
            for offset in (0..middle).step_by(16) {
                _mm_stream_si128(to.add(offset).cast::<__m128i>(), _mm_loadu_si128(from.add(offset).cast()));
            }
            edge(to.add(middle), from.add(middle), tail);
        }
    }

    /// # Safety
    ///
    /// As for [`copy_nt`].
    unsafe fn edge(to: *mut u8, from: *const u8, length: usize) {
        if length > 0 {
            // SAFETY: the caller's promise.
            unsafe {
                core::ptr::copy_nonoverlapping(from, to, length);
                write_back(to, length);
            }
        }
    }

    /// Orders all write-backs and stores past the caches before what follows.
    pub fn fence() {
        // SAFETY: every x86-64 processor has it.
        unsafe { _mm_sfence() };
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod imp {
    use core::sync::atomic::{Ordering, fence as order};

    /// Nothing to do.
    ///
    /// # Safety
    ///
    /// None is needed.
    pub unsafe fn write_back(_from: *const u8, _length: usize) {}

    /// Copies.
    ///
    /// # Safety
    ///
    /// `length` bytes exist at both, and do not overlap.
    pub unsafe fn copy_nt(to: *mut u8, from: *const u8, length: usize) {
        // SAFETY: the caller's promise.
        unsafe { core::ptr::copy_nonoverlapping(from, to, length) };
    }

    /// Orders all stores before what follows.
    pub fn fence() {
        order(Ordering::SeqCst);
    }
}

pub use imp::{copy_nt, fence, write_back};
