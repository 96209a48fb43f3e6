//! Somebody who consolidates beside the server.

use model::InstallationKey;
use staging::Seal;
use tokio_util::sync::CancellationToken;

use super::base::Base;
use super::rules;

/// Consolidates until dropped.
pub(crate) struct Consolidating(CancellationToken);

impl Consolidating {
    pub(crate) fn beside(base: &Base) -> Self {
        let (options, cancel) = (base.options.clone(), CancellationToken::new());
        let stop = cancel.clone();
        std::thread::spawn(move || {
            let seal = Seal::new(&InstallationKey::new([7; 32]));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(consolidate::run(&rules(), &seal, &options, &stop)).unwrap();
        });
        Self(cancel)
    }
}

impl Drop for Consolidating {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
