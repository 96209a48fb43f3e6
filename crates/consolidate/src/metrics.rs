//! Names of the metrics of this crate.

/// Records merged into cross-references, by source.
pub(crate) const RECORDS_CONSOLIDATED: &str = "c360_records_consolidated_total";
/// Records that could not be merged and are dead letters now, by source.
pub(crate) const RECORDS_EXCLUDED: &str = "c360_records_excluded_total";
/// Customer records older, by position, than what their cross-reference knows, by source: what a replay repeats, and what
/// comes late.
pub(crate) const RECORDS_OLDER: &str = "c360_records_older_total";
/// Those of them that are newer by their time than all that their source has ever said: its log has begun again.
pub(crate) const RECORDS_OLDER_YET_NEW: &str = "c360_records_older_yet_new_total";
/// Profiles written.
pub(crate) const PROFILES_WRITTEN: &str = "c360_profiles_written_total";
/// Profiles that the database refused to take; they stay as they are.
pub(crate) const PROFILES_REFUSED: &str = "c360_profiles_refused_total";
/// Seconds for step 1 of one claim.
pub(crate) const MERGE_SECONDS: &str = "c360_merge_seconds";
/// Seconds for step 2 of one set of dirty keys.
pub(crate) const FOLD_SECONDS: &str = "c360_fold_seconds";
/// 1 while this process consolidates, 0 while it stands by.
pub(crate) const CONSOLIDATOR_ACTIVE: &str = "c360_consolidator_active";
/// Passes that failed and were tried again.
pub(crate) const FAILURES: &str = "c360_consolidate_failures_total";
