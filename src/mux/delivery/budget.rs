//! The memory limit for packets that wait for consumers, of one connection and of the whole
//! process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// The limit of one connection, for all its consumers.
const CONNECTION_BYTES: usize = 64 * 1024 * 1024;
/// The limit of all connections of the process.
pub(super) const PROCESS_BYTES: usize = 512 * 1024 * 1024;

pub(super) static PROCESS_BUDGET: Budget = Budget::new(PROCESS_BYTES);

/// Bytes that several queues share.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            limit,
        }
    }

    /// The budget of one connection.
    pub fn for_connection() -> Arc<Self> {
        Arc::new(Self::new(CONNECTION_BYTES))
    }

    fn try_take(&self, bytes: usize) -> bool {
        // Relaxed: only the sum matters, no other data depends on it.
        if self
            .used
            .fetch_add(bytes, Ordering::Relaxed)
            .saturating_add(bytes)
            <= self.limit
        {
            return true;
        }
        self.give_back(bytes);
        false
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.limit
    }
}

/// One queue's share of the budgets, and what it has drawn.
#[derive(Debug)]
pub(super) struct BudgetAccount {
    connection: Arc<Budget>,
    process: &'static Budget,
    drawn: usize,
    /// Drawn ahead, and not used yet.
    ahead: usize,
}

impl BudgetAccount {
    pub(super) fn new(connection: Arc<Budget>, process: &'static Budget) -> Self {
        Self {
            connection,
            process,
            drawn: 0,
            ahead: 0,
        }
    }

    /// Draws what a batch of packets needs at most, if there is that much. All threads write to the
    /// budgets, so this is done once for a batch and not for each packet.
    pub(super) fn draw_ahead(&mut self, bytes: usize) {
        if self.try_take(bytes) {
            self.ahead += bytes;
        }
    }

    /// Returns what the batch did not need.
    pub(super) fn give_back_rest(&mut self) {
        let rest = std::mem::take(&mut self.ahead);
        if rest > 0 {
            self.return_to_budgets(rest);
        }
    }

    /// A new, empty account on the same budgets.
    pub(super) fn another(&self) -> Self {
        Self::new(Arc::clone(&self.connection), self.process)
    }

    /// Passes bytes that it has drawn to another account on the same budgets.
    pub(super) fn hand_over(&mut self, bytes: usize, to: &mut Self) {
        self.drawn -= bytes;
        to.drawn += bytes;
    }

    pub(super) fn try_draw(&mut self, bytes: usize) -> bool {
        let is_taken = match self.ahead.checked_sub(bytes) {
            Some(left) => {
                self.ahead = left;
                true
            }
            None => self.try_take(bytes),
        };
        if is_taken {
            self.drawn += bytes;
        }
        is_taken
    }

    pub(super) fn give_back(&mut self, bytes: usize) {
        self.drawn -= bytes;
        self.return_to_budgets(bytes);
    }

    pub(super) fn give_back_all(&mut self) {
        self.give_back(self.drawn);
    }

    fn try_take(&self, bytes: usize) -> bool {
        if !self.connection.try_take(bytes) {
            return false;
        }
        let is_taken = self.process.try_take(bytes);
        if !is_taken {
            self.connection.give_back(bytes);
        }
        is_taken
    }

    fn return_to_budgets(&self, bytes: usize) {
        self.connection.give_back(bytes);
        self.process.give_back(bytes);
    }
}

impl Drop for BudgetAccount {
    fn drop(&mut self) {
        self.give_back_all();
        self.give_back_rest();
    }
}
