//! Retrying: letters that can be read by now are landed, each exactly once, whoever else retries or discards them.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use model::{Position, Reason, Record, Reject};
use serde_json::json;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use super::{Closed, Context, DeadLetter, Opened, Settlement, State, open};
use crate::erased::Erased;
use crate::{Batch, Checkpoint, Error, Lander, Landing, Patience, connect, imports};

/// What a letter is when its source's ingester reads it again.
#[derive(Clone, Debug)]
pub enum Reread {
    /// It can be landed; without a record or a letter it is nothing to land, and a counted skip.
    Lands {
        /// Its records, at the positions that they would have had when it came.
        records: Vec<Record>,
        /// Parts of it that are still bad while others are fine, to be parked by themselves.
        dead_letters: Vec<DeadLetter>,
        /// Products that the records name, to be asked about.
        products: Vec<String>,
    },
    /// It cannot be landed: why now.
    StillBad(Reject),
    /// It cannot be read again at all.
    Cannot(Cannot),
}

/// Why a letter cannot be retried, whatever the configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cannot {
    /// Only a part of what came was kept.
    Truncated,
    /// It lacks what reading it again takes.
    NoContext,
    /// Its source is of another kind now, or not configured any more.
    NoSource,
    /// It does not open.
    Sealed,
    /// What reading it again takes does not answer at the moment: another attempt may go well.
    OutOfReach,
}

/// Whether what is known of files decides over rows that land late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// Each file says what has changed: positions decide alone.
    Deltas,
    /// Each file holds everybody: a row of an older file than the newest one says nothing any more.
    FullExports,
}

/// What became of letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// How many were looked at.
    pub letters: u64,
    /// How many are landed: all of each, or parts of it while others are parked anew.
    pub landed: u64,
    /// How many records that gave.
    pub records: u64,
    /// How many are nothing to land, and counted as skips.
    pub skipped: u64,
    /// How many are of nobody but the erased, and counted as skips.
    pub erased: u64,
    /// Parts of landed ones that are parked by themselves now.
    pub parts: u64,
    /// How many are still bad, by the word of why now.
    pub still_bad: BTreeMap<&'static str, u64>,
    /// How many cannot be retried, by why.
    pub cannot: BTreeMap<Cannot, u64>,
    /// How many somebody else has retried or discarded meanwhile.
    pub elsewhere: u64,
    /// The batches that were landed.
    pub batch_ids: Vec<i64>,
}

/// Retries letters of one source.
pub struct Retrier<'a> {
    /// The source.
    pub source: &'a str,
    /// How long its records stay in staging.
    pub ttl: Duration,
    /// For a CSV source: what its files are.
    pub files: Option<Files>,
    /// Where the letters are.
    pub database: &'a PgConnectOptions,
    /// Lands, and opens.
    pub lander: &'a mut Lander,
    /// Stops waiting for the database.
    pub cancel: &'a CancellationToken,
}

/// Letters that were read again, before they are landed.
struct Attempt {
    batch: Batch,
    settlement: Settlement,
    counts: Retried,
}

/// What rows must not be older than, and the import that says so.
#[derive(Default)]
struct Horizon {
    import_id: Option<i64>,
    position: Option<Position>,
}

impl Retrier<'_> {
    /// Lands those of the letters that `reread` can read and that are parked, in one transaction, or in several if the
    /// database refuses some of them. What is still bad stays parked with the new reason. A reply to COMMIT that is lost
    /// neither doubles nor loses anything.
    ///
    /// # Errors
    /// [`Error::Importing`] while files of a CSV source are imported; what is landed before an error is landed.
    pub async fn retry(&mut self, ids: &[i64], reread: &impl Fn(&Opened) -> Reread) -> Result<Retried, Error> {
        let mut retried = Retried::default();
        let mut open = vec![ids];
        while let Some(part) = open.pop() {
            match (self.land(part, reread).await, part) {
                (Ok(landed), _) => retried.add(landed),
                (Err(error), [id]) if error.is_data() => retried.add(self.keep(*id, &error).await?),
                (Err(error), part) if error.is_data() => {
                    let (left, right) = part.split_at(part.len() / 2);
                    open.extend([right, left]);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(retried)
    }

    /// What [`Retrier::retry`] would do, without doing it.
    pub async fn look(&mut self, ids: &[i64], reread: &impl Fn(&Opened) -> Reread) -> Result<Retried, Error> {
        let mut patience = Patience::new("reading dead letters");
        loop {
            match self.read(ids).await {
                Ok((letters, horizon)) => return Ok(self.attempt(&letters, &horizon, reread).counts),
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    async fn land(&mut self, ids: &[i64], reread: &impl Fn(&Opened) -> Reread) -> Result<Retried, Error> {
        // One moment for all attempts, by which a landing whose reply was lost is recognised.
        let now = Utc::now().trunc_subsecs(6);
        let mut patience = Patience::new("landing dead letters again");
        let mut last: Option<Attempt> = None;
        loop {
            match self.try_to_land(ids, reread, now, &mut last).await {
                Ok(Some(landed)) => {
                    patience.worked();
                    return Ok(landed);
                }
                // Fenced: looked at again.
                Ok(None) => {}
                Err(error) => patience.wait(self.cancel, error).await?,
            }
        }
    }

    async fn try_to_land(
        &mut self,
        ids: &[i64],
        reread: &impl Fn(&Opened) -> Reread,
        now: DateTime<Utc>,
        last: &mut Option<Attempt>,
    ) -> Result<Option<Retried>, Error> {
        let (letters, horizon) = self.read(ids).await?;
        if let Some(last) = last.take_if(|last| last.has_committed(&letters, now)) {
            return Ok(Some(last.counts));
        }
        let Attempt { batch, settlement, counts } = last.insert(self.attempt(&letters, &horizon, reread));
        if settlement.landed.is_empty() && settlement.still_bad.is_empty() {
            return Ok(Some(counts.clone()));
        }
        let origin = json!({"dead_letters": {"first": ids.first(), "last": ids.last()}});
        let checkpoint = Checkpoint::DeadLetters(settlement.clone());
        match self.lander.land(batch, &origin, &checkpoint, now).await? {
            Landing::Landed { batch_id } => {
                let mut landed = counts.clone();
                landed.batch_ids.extend(batch_id);
                Ok(Some(landed))
            }
            Landing::Fenced => Ok(None),
        }
    }

    /// Opens letters, and sees what is known by now: what lands by it.
    async fn read(&mut self, ids: &[i64]) -> Result<(Vec<Opened>, Horizon), Error> {
        let mut connection = connect(self.database).await?;
        let horizon = match self.files {
            Some(files) => Horizon::of(&mut connection, self.source, files).await?,
            None => Horizon::default(),
        };
        self.lander.erased.read(&mut connection).await?;
        Ok((open(&mut connection, self.lander.seal(), ids).await?, horizon))
    }

    /// A letter that the database refuses, alone.
    async fn keep(&mut self, id: i64, error: &Error) -> Result<Retried, Error> {
        let reject = Reject::new(Reason::BadValue, format!("the database refuses it: {error}"));
        let mut attempt = self.nothing_yet(1, &Horizon::default());
        attempt.leave(id, reject);
        // Why a letter is bad hangs on no file.
        attempt.settlement.newest_import = None;
        let checkpoint = Checkpoint::DeadLetters(attempt.settlement);
        let mut patience = Patience::new("noting why a dead letter is still bad");
        while let Err(error) = self.lander.land(&mut attempt.batch, &json!({}), &checkpoint, Utc::now()).await {
            patience.wait(self.cancel, error).await?;
        }
        Ok(attempt.counts)
    }

    fn attempt(&self, letters: &[Opened], horizon: &Horizon, reread: &impl Fn(&Opened) -> Reread) -> Attempt {
        let mut attempt = self.nothing_yet(letters.len() as u64, horizon);
        for opened in letters {
            if opened.letter.state == State::Parked {
                attempt.take(opened.letter.dead_letter_id, read_again(opened, reread), (horizon, &self.lander.erased));
            } else {
                attempt.counts.elsewhere += 1;
            }
        }
        attempt
    }

    fn nothing_yet(&self, letters: u64, horizon: &Horizon) -> Attempt {
        let newest_import = self.files.map(|_| horizon.import_id);
        Attempt {
            batch: Batch::new(self.source, self.ttl),
            settlement: Settlement { newest_import, ..Settlement::default() },
            counts: Retried { letters, ..Retried::default() },
        }
    }
}

/// Reads a letter again. What was a record already is the same record.
fn read_again(opened: &Opened, reread: &impl Fn(&Opened) -> Reread) -> Reread {
    if opened.letter.truncated {
        return Reread::Cannot(Cannot::Truncated);
    }
    let contents = match &opened.contents {
        Ok(contents) => contents,
        Err(Closed::Sealed | Closed::Wiped) => return Reread::Cannot(Cannot::Sealed),
    };
    match &contents.context {
        None | Some(Context::Source(_)) => reread(opened),
        Some(Context::Record(kept)) => match kept.record(&contents.payload) {
            Some(record) => Reread::Lands { records: vec![record], dead_letters: Vec::new(), products: Vec::new() },
            None => Reread::Cannot(Cannot::NoContext),
        },
    }
}

impl Attempt {
    fn take(&mut self, id: i64, reread: Reread, (horizon, erased): (&Horizon, &Erased)) {
        let counts = &mut self.counts;
        match reread {
            Reread::Lands { records, dead_letters, products } => {
                self.settlement.landed.push((id, self.batch.record_count()));
                let is_superseded = records.iter().any(|record| horizon.has_passed(record));
                if is_superseded || records.is_empty() && dead_letters.is_empty() {
                    self.batch.skip();
                    counts.skipped += 1;
                    return;
                }
                // The landing itself keeps them out, whatever is known here.
                let source = self.batch.source();
                let kept_out = records.iter().filter(|record| erased.keeps_out(source, record)).count();
                if kept_out == records.len() && dead_letters.is_empty() {
                    counts.erased += 1;
                } else {
                    counts.landed += 1;
                }
                counts.records += (records.len() - kept_out) as u64;
                counts.parts += dead_letters.len() as u64;
                self.settlement.products.extend(products);
                for record in &records {
                    self.batch.push(record);
                }
                for letter in dead_letters {
                    self.batch.push_dead_letter(letter);
                }
            }
            Reread::StillBad(reject) => self.leave(id, reject),
            Reread::Cannot(why) => *counts.cannot.entry(why).or_default() += 1,
        }
    }

    /// A letter that is still bad.
    fn leave(&mut self, id: i64, reject: Reject) {
        *self.counts.still_bad.entry(reject.reason.as_str()).or_default() += 1;
        self.settlement.still_bad.push((id, reject));
    }

    /// Whether this was landed at that moment, and only the reply was lost.
    fn has_committed(&mut self, letters: &[Opened], now: DateTime<Utc>) -> bool {
        let is_ours = |letter: &&Opened| {
            let letter = &letter.letter;
            letter.state == State::Retried
                && letter.handled_at == Some(now)
                && self.settlement.landed.iter().any(|(id, _)| *id == letter.dead_letter_id)
        };
        let Some(ours) = letters.iter().find(is_ours) else { return false };
        self.counts.batch_ids.extend(ours.letter.landed_batch_id);
        true
    }
}

impl Horizon {
    async fn of(connection: &mut PgConnection, source: &str, files: Files) -> Result<Self, Error> {
        let newest = imports::newest(connection, source, None).await?;
        let position = newest.as_ref().filter(|_| files == Files::FullExports);
        Ok(Self {
            import_id: newest.as_ref().map(|newest| newest.import_id),
            position: position.map(|newest| Position::csv(newest.as_of, newest.mtime, 0)),
        })
    }

    /// Whether a newer full export says what this record said.
    fn has_passed(&self, record: &Record) -> bool {
        self.position.as_ref().is_some_and(|position| record.position < *position)
    }
}

impl Retried {
    /// Adds what became of others.
    pub fn add(&mut self, other: Self) {
        self.letters += other.letters;
        self.landed += other.landed;
        self.records += other.records;
        self.skipped += other.skipped;
        self.erased += other.erased;
        self.parts += other.parts;
        self.elsewhere += other.elsewhere;
        self.batch_ids.extend(other.batch_ids);
        for (reason, letters) in other.still_bad {
            *self.still_bad.entry(reason).or_default() += letters;
        }
        for (why, letters) in other.cannot {
            *self.cannot.entry(why).or_default() += letters;
        }
    }
}

impl Cannot {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NoContext => "no_context",
            Self::NoSource => "no_source",
            Self::Sealed => "sealed",
            Self::OutOfReach => "out_of_reach",
        }
    }

    /// What it means and what to do instead.
    pub fn why(self) -> &'static str {
        match self {
            Self::Truncated => {
                "only a part of what came was kept, because it was too large: raise the source's limit, then let the source \
                 send it again"
            }
            Self::NoContext => {
                "another version of c360 parked it and did not keep what reading it again takes: let the source send it again"
            }
            Self::NoSource => "its source is not configured, or is of another kind now",
            Self::Sealed => "it does not open: it was sealed under another installation key, or is damaged",
            Self::OutOfReach => "the schema registry of its source does not answer: try again when it does",
        }
    }
}
