//! The page of `c360 rebuild`.

pub(in crate::cli) const REBUILD: &str = "\
Computes every profile anew, from what the systems say, the decisions that stand and the rules in the configuration: after \
`matching` or `survivorship` has changed, after an update that says so, or when somebody has changed tables by hand.

Match keys are computed anew, too, so whom a guard keeps out now loses a profile, and whom it lets in gets one. On a \
consistent base nothing at all is written. Customers keep their ids.

It works beside a daemon, which does it then, in steps between everything else; start the daemon again with the new \
configuration first. This command waits and shows how far it is. Interrupted, it goes on where it stopped, by the same \
command or by whoever consolidates next. With --dry-run nothing is written: it says how many profiles would appear, vanish \
and change, and names some by customer id and attribute, never by value.";
pub(in crate::cli) const REBUILD_END: &str = "\
Examples:
  c360 rebuild --dry-run
  c360 rebuild
  c360 rebuild --json

Exit codes:
  0   rebuilt, or there was nothing to change. With --dry-run: looked at
  1   stopped before its end; the same command goes on
  69  the database is out of reach
  75  the process that consolidates runs under other rules: start it again with this configuration
  78  the configuration cannot be used";
