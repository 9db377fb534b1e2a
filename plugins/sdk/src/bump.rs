//! The plugin's allocator: it never frees, for an instance lives for one call.
//!
//! Rust's own grows the memory in small steps, and each step takes a lock of the host's process. This one hands out an
//! arena that the instance already has, so that most calls never grow the memory.

use std::alloc::Layout;

/// Memory that is handed out front to back. Addresses only: it touches nothing.
///
/// Invariant: `next <= end`, and nothing from `next` on belongs to anybody.
struct Bump {
    next: usize,
    end: usize,
}

impl Bump {
    /// The address of a new block, or `None` when it does not fit.
    fn place(&mut self, layout: Layout) -> Option<usize> {
        let start = self.next.checked_next_multiple_of(layout.align())?;
        let next = start.checked_add(layout.size()).filter(|next| *next <= self.end)?;
        self.next = next;
        Some(start)
    }

    /// Whether the block at `start` now has `new_size`: the last one can grow and shrink, any other only shrink.
    fn resize(&mut self, start: usize, size: usize, new_size: usize) -> bool {
        if start + size != self.next {
            return new_size <= size;
        }
        match start.checked_add(new_size).filter(|next| *next <= self.end) {
            Some(next) => {
                self.next = next;
                true
            }
            None => false,
        }
    }

    /// Adds the memory `start..end`, which nobody uses. What is left of other memory is given up.
    fn add(&mut self, start: usize, end: usize) {
        if start != self.end {
            self.next = start;
        }
        self.end = end;
    }
}

#[cfg(target_arch = "wasm32")]
#[allow(unsafe_code)]
mod global {
    use std::alloc::{GlobalAlloc, Layout};
    use std::arch::wasm32::{memory_grow, memory_size};
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    use super::Bump;

    /// Holds what a call about a body of 32 KiB needs, its JSON read into a tree included.
    const ARENA_BYTES: usize = 512 * 1024;
    const PAGE_BYTES: usize = 64 * 1024;

    /// `UnsafeCell` for a module without threads.
    struct Single<T>(UnsafeCell<T>);

    // SAFETY: without the target feature `atomics` a module has one thread; with it, the build fails below.
    unsafe impl<T> Sync for Single<T> {}

    #[cfg(target_feature = "atomics")]
    compile_error!("the feature `bump-allocator` is for plugins, which have one thread");

    #[global_allocator]
    static ALLOCATOR: Single<Bump> = Single(UnsafeCell::new(Bump { next: 0, end: 0 }));
    static ARENA: Single<MaybeUninit<[u8; ARENA_BYTES]>> = Single(UnsafeCell::new(MaybeUninit::uninit()));

    // SAFETY: `Bump` hands out addresses of the arena and of pages this module grew, each to one block at a time, aligned
    // and in bounds; nothing here panics or allocates. No reference to the `Bump` outlives a call below, and none of them
    // calls another.
    unsafe impl GlobalAlloc for Single<Bump> {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: as above.
            let bump = unsafe { &mut *self.0.get() };
            match bump.place(layout).or_else(|| grow(bump, layout)) {
                Some(address) => address as *mut u8,
                None => std::ptr::null_mut(),
            }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: as above.
            unsafe { &mut *self.0.get() }.resize(block as usize, layout.size(), 0);
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: as above.
            if unsafe { &mut *self.0.get() }.resize(block as usize, layout.size(), new_size) {
                return block;
            }
            // SAFETY: the caller vouches that `new_size` with this alignment is a layout.
            let new = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
            if !new.is_null() {
                // SAFETY: both are blocks of at least this length, and a new one overlaps no other.
                unsafe { block.copy_to_nonoverlapping(new, layout.size().min(new_size)) };
            }
            new
        }
    }

    /// Places a block in more memory: first the arena, then new pages.
    #[cold]
    fn grow(bump: &mut Bump, layout: Layout) -> Option<usize> {
        if bump.end == 0 {
            let start = ARENA.0.get() as usize;
            bump.add(start, start + ARENA_BYTES);
            if let Some(address) = bump.place(layout) {
                return Some(address);
            }
        }
        let needed = layout.size().checked_add(layout.align())?.div_ceil(PAGE_BYTES);
        // As much again as there is, so that there are few steps; what is needed when that is over the limit.
        let pages = memory_size::<0>();
        for delta in [needed.max(pages), needed] {
            let first = memory_grow::<0>(delta);
            if first != usize::MAX {
                let end = (first + delta).saturating_mul(PAGE_BYTES);
                bump.add(first * PAGE_BYTES, end);
                return bump.place(layout);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_are_aligned_in_bounds_and_apart() {
        let mut bump = Bump { next: 1001, end: 1100 };
        assert_eq!(bump.place(layout(3, 1)), Some(1001));
        assert_eq!(bump.place(layout(8, 8)), Some(1008));
        assert_eq!(bump.place(layout(0, 16)), Some(1024));
        assert_eq!(bump.place(layout(77, 1)), None, "one byte too many");
        assert_eq!(bump.place(layout(76, 1)), Some(1024));
        assert_eq!(bump.place(layout(1, 1)), None);
        assert_eq!(bump.place(layout(0, 1)), Some(1100));
    }

    #[test]
    fn addresses_do_not_wrap() {
        let mut bump = Bump { next: usize::MAX - 10, end: usize::MAX };
        assert_eq!(bump.place(layout(20, 1)), None);
        assert_eq!(bump.place(layout(1, 64)), None);
        assert!(!bump.resize(usize::MAX - 10, 0, 20));
        assert_eq!(bump.place(layout(10, 1)), Some(usize::MAX - 10));
    }

    #[test]
    fn only_the_last_block_is_resized_and_reused() {
        let mut bump = Bump { next: 0, end: 100 };
        let (first, last) = (bump.place(layout(10, 1)).unwrap(), bump.place(layout(10, 1)).unwrap());
        assert!(!bump.resize(first, 10, 11), "it would run into the next");
        assert!(bump.resize(first, 10, 5));
        assert!(bump.resize(last, 10, 90));
        assert!(!bump.resize(last, 90, 91), "out of bounds");
        assert!(bump.resize(last, 90, 0));
        assert_eq!(bump.place(layout(10, 1)), Some(last));
    }

    #[test]
    fn new_memory_continues_the_old_where_it_adjoins() {
        let mut bump = Bump { next: 0, end: 0 };
        bump.add(64, 128);
        assert_eq!(bump.place(layout(60, 1)), Some(64));
        bump.add(128, 192);
        assert_eq!(bump.place(layout(60, 1)), Some(124));
        bump.add(256, 320);
        assert_eq!(bump.place(layout(60, 1)), Some(256));
    }
}
