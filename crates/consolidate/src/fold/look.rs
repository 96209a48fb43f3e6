//! What folding would change, without writing anything.

use sqlx::PgConnection;
use sqlx::types::Uuid;

use super::{Living, Marked, assign, read_living, read_living_if, take_strays, targets};
use crate::customers::{self, Target};
use crate::matching::Matching;
use crate::{Error, ProfileChange};

/// Those whose match key is one of `$1` now and another one in the table; see `rebuild/foresee.rs`.
const OF_STRAYS: &str =
    "(x.system, x.external_id) in (select system, external_id from rebuild_strays where match_key = any ($1))";

/// What a look finds.
pub(crate) struct Looked {
    /// Profiles that would change.
    pub(crate) changes: Vec<ProfileChange>,
    /// Customers that would have somebody, under another match key than their rows say.
    pub(crate) misnamed: Vec<Uuid>,
}

/// Says which profiles of one part would change. Wants the temporary table `rebuild_strays`.
pub(crate) async fn look(
    connection: &mut PgConnection,
    matching: &Matching<'_>,
    part: &[Marked<'_>],
) -> Result<Looked, Error> {
    let mut living = read_living(connection, part).await?;
    take_strays(&mut living, matching);
    for stray in read_living_if(connection, part, OF_STRAYS).await? {
        let key = matching.key(&stray.system, &stray.external_id, stray.email.as_deref());
        living.extend(key.ok().map(|match_key| Living { match_key, ..stray }));
    }
    assign(&mut living, matching);
    let targets = targets(part, &living, matching);
    let ids: Vec<Uuid> = targets.iter().map(|target| target.customer_id).collect();
    let known = customers::read(connection, &ids).await?;
    let change = |target: &Target| {
        let (change, attributes) = customers::foresee(target, known.get(&target.customer_id))?;
        Some(ProfileChange { customer_id: target.customer_id, change, attributes })
    };
    let is_misnamed = |target: &&Target| {
        target.living() && known.get(&target.customer_id).is_some_and(|known| known.has_other_key(target))
    };
    Ok(Looked {
        changes: targets.iter().filter_map(change).collect(),
        misnamed: targets.iter().filter(is_misnamed).map(|target| target.customer_id).collect(),
    })
}
