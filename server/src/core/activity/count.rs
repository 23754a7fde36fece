//! Counting over months. Each month is a folder that is sorted by client, so several of them are read side by side, as
//! sorted lists are merged: a client's months are all seen at once, each client is counted once, and what is in memory
//! is a page of each month. Exact, for any range.

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;

use obol_mount::Result;
use obol_storage::View;

use super::{Activity, Client, ClientKind, Month};

/// Months, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub first: Month,
    pub last: Month,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub entities: u64,
    pub tokens: u64,
}

/// By the accessor of the mount.
pub type ByMount = BTreeMap<String, Count>;

/// What a range of months comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Each client once, with the mount of its first month.
    pub total: ByMount,
    /// Every month of the range, in order.
    pub months: Vec<MonthCount>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct MonthCount {
    pub month: Month,
    pub all: ByMount,
    /// Those who are in no earlier month of the range.
    pub new: ByMount,
}

impl Count {
    pub fn clients(&self) -> u64 {
        self.entities + self.tokens
    }

    fn one(&mut self, kind: ClientKind) {
        match kind {
            ClientKind::Entity => self.entities += 1,
            ClientKind::Token => self.tokens += 1,
        }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.entities += other.entities;
        self.tokens += other.tokens;
    }
}

impl Activity {
    /// Counts the clients of a range.
    pub async fn count(&self, range: Range) -> Result<Counted> {
        let _turn = self.counting.lock().await;
        let mut counted = Counted::default();
        let mut pages = Vec::new();
        for month in range.first.to(range.last) {
            pages.push(Page::of(&self.storage, month));
            counted.months.push(MonthCount {
                month,
                all: ByMount::new(),
                new: ByMount::new(),
            });
        }
        loop {
            for page in &mut pages {
                page.fill().await?;
            }
            let names = pages.iter().filter_map(Page::name);
            let Some(name) = names.min().map(str::to_owned) else {
                return Ok(counted);
            };
            let mut is_new = true;
            for (page, month) in pages.iter_mut().zip(&mut counted.months) {
                let Some(client) = page.take(&name) else {
                    continue;
                };
                if is_new {
                    add(&mut month.new, &client);
                    add(&mut counted.total, &client);
                }
                add(&mut month.all, &client);
                is_new = false;
            }
        }
    }

    /// The clients of one month, by their names alone.
    pub async fn count_names(&self, month: Month) -> Result<Count> {
        let mut names = Names::of(&self.storage, month);
        let mut count = Count::default();
        while names.fill().await? {
            for name in names.page.drain(..) {
                count.one(ClientKind::of_name(&name));
            }
        }
        Ok(count)
    }

    /// Whether a range has any client.
    pub async fn has_any(&self, range: Range) -> Result<bool> {
        let months = self.months().await?;
        Ok(months
            .iter()
            .any(|month| (range.first..=range.last).contains(month)))
    }

    /// Every client of a range once, as it came first: month by month.
    pub fn firsts(&self, range: Range) -> Firsts {
        let months = range.first.to(range.last).collect();
        Firsts {
            storage: self.storage.clone(),
            months,
            present: None,
            earlier: Vec::new(),
        }
    }
}

fn add(to: &mut ByMount, client: &Client) {
    match to.get_mut(&client.accessor) {
        Some(count) => count.one(client.kind),
        None => {
            let mut count = Count::default();
            count.one(client.kind);
            to.insert(client.accessor.clone(), count);
        }
    }
}

/// The clients of a range in the order of their first month, by name within one. Of the months before that month names
/// alone are read.
pub struct Firsts {
    storage: View,
    /// Those that are still to come.
    months: VecDeque<Month>,
    present: Option<Page>,
    /// The months before the present one, the latest first: most clients of a month were there in the one before.
    earlier: Vec<Names>,
}

impl Firsts {
    pub async fn next(&mut self) -> Result<Option<(String, Client)>> {
        loop {
            let Some(present) = &mut self.present else {
                let Some(month) = self.months.pop_front() else {
                    return Ok(None);
                };
                self.present = Some(Page::of(&self.storage, month));
                continue;
            };
            present.fill().await?;
            let Some((name, client)) = present.entries.pop_front() else {
                // Read again from their beginning, beside the next month.
                let month = present.month;
                for names in &mut self.earlier {
                    *names = Names::of(&self.storage, names.month);
                }
                self.earlier.insert(0, Names::of(&self.storage, month));
                self.present = None;
                continue;
            };
            let mut is_new = true;
            for names in &mut self.earlier {
                if names.has(&name).await? {
                    is_new = false;
                    break;
                }
            }
            if is_new {
                return Ok(Some((name, client)));
            }
        }
    }
}

/// A month that is being read, a page at a time.
struct Page {
    storage: View,
    month: Month,
    folder: String,
    entries: VecDeque<(String, Client)>,
    /// The last path that was read; `None` with `is_over` unset: nothing was.
    after: Option<String>,
    is_over: bool,
}

impl Page {
    fn of(storage: &View, month: Month) -> Self {
        Self {
            storage: storage.clone(),
            month,
            folder: month.folder(),
            entries: VecDeque::new(),
            after: None,
            is_over: false,
        }
    }

    /// Has the next entries at hand, if there are any.
    async fn fill(&mut self) -> Result<()> {
        if !self.entries.is_empty() || self.is_over {
            return Ok(());
        }
        let after = self.after.as_deref();
        let page = self.storage.scan_folder(&self.folder, after, PAGE).await?;
        self.is_over = page.len() < PAGE;
        for (path, entry) in page {
            let client = self.storage.parse(&path, &entry)?;
            let name = path.strip_prefix(&self.folder).unwrap_or(&path).to_owned();
            self.entries.push_back((name, client));
            self.after = Some(path);
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn name(&self) -> Option<&str> {
        self.entries.front().map(|(name, _)| name.as_str())
    }

    /// The next client, if it is the one of this name.
    fn take(&mut self, name: &str) -> Option<Client> {
        match self.name() {
            Some(next) if next == name => self.entries.pop_front().map(|(_, client)| client),
            _ => None,
        }
    }
}

/// A month whose names are being read, a page at a time.
struct Names {
    storage: View,
    month: Month,
    folder: String,
    page: VecDeque<String>,
    after: Option<String>,
    is_over: bool,
}

impl Names {
    fn of(storage: &View, month: Month) -> Self {
        Self {
            storage: storage.clone(),
            month,
            folder: month.folder(),
            page: VecDeque::new(),
            after: None,
            is_over: false,
        }
    }

    /// Has the next names at hand; `false` when there are none.
    async fn fill(&mut self) -> Result<bool> {
        if self.page.is_empty() && !self.is_over {
            let after = self.after.as_deref();
            let page = self.storage.list(&self.folder, after, NAMES).await?;
            self.is_over = page.len() < NAMES;
            self.after = page.last().cloned();
            self.page = page.into();
            tokio::task::yield_now().await;
        }
        Ok(!self.page.is_empty())
    }

    /// Whether a name is among them. Asked in order: what comes before it is passed over.
    async fn has(&mut self, name: &str) -> Result<bool> {
        while self.fill().await? {
            while let Some(next) = self.page.front() {
                match next.as_str().cmp(name) {
                    std::cmp::Ordering::Less => drop(self.page.pop_front()),
                    std::cmp::Ordering::Equal => return Ok(true),
                    std::cmp::Ordering::Greater => return Ok(false),
                }
            }
        }
        Ok(false)
    }
}

/// Clients that are read at once of one month. A count of all the months that can be kept holds some ten thousand.
const PAGE: usize = 200;
const NAMES: usize = 1000;
