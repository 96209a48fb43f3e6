//! What librdkafka says of a connection that failed, told as what is wrong and what to do about it.

/// Why brokers cannot be used, where librdkafka's words say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// A sentence without its full stop: what the broker does, and which property to look at.
    pub(crate) sentence: String,
    /// Whether waiting does not cure it.
    pub(crate) is_lasting: bool,
}

impl Trouble {
    /// Makes sense of the line of a failed connection: `[protocol://]host:port/id: what happened (after 3ms in state S)`.
    pub(crate) fn of(said: &str) -> Option<Self> {
        let (place, what) = said.split_once(": ")?;
        let place = place.split_once("://").map_or(place, |(_, place)| place);
        let broker = place.split_once('/').map_or(place, |(broker, _)| broker);
        let says = |words: &str| what.contains(words);
        let lasting = |what: String| Some(Self { sentence: format!("broker {broker} {what}"), is_lasting: true });
        if says("certificate verify failed") {
            return lasting(format!(
                "has a certificate that cannot be trusted: it has expired, is for another host, or its issuer is not in \
                 properties.ssl.ca.location (`openssl s_client -showcerts -connect {broker}` shows it)"
            ));
        }
        if says("alert") && (says("certificate") || says("unknown ca")) {
            return lasting(
                "wants a certificate of c360 that it trusts: see properties.ssl.certificate.location and ssl.key.location"
                    .to_owned(),
            );
        }
        if says("mechanism handshake failed") {
            let offered = what.split_once("supported mechanisms:").map_or("", |(_, offered)| offered);
            let offered = offered.split(" (").next().unwrap_or_default().trim();
            return lasting(match offered {
                "" => "wants no user name at this port: see properties.security.protocol".to_owned(),
                offered => format!("does not take properties.sasl.mechanism, only {offered}"),
            });
        }
        if says("SASL authentication error") {
            return lasting(
                "refuses the user name or the password: see properties.sasl.username and sasl.password".to_owned(),
            );
        }
        // A broker that stops closes connections, too.
        let passing = |what: &str| Some(Self { sentence: format!("broker {broker} {what}"), is_lasting: false });
        if says("connecting to a PLAINTEXT broker listener") {
            return passing(
                "closes the connection and may not speak TLS at this port: see properties.security.protocol",
            );
        }
        if says("Disconnected") && lasted_ms(what, "APIVERSION_QUERY").is_some() {
            return passing("closes the connection and may want TLS at this port: see properties.security.protocol");
        }
        if says("Disconnected") && lasted_ms(what, "UP").is_some_and(|ms| ms < 1_000) {
            return passing("closes the connection and may want a user name: see properties.security.protocol");
        }
        None
    }
}

/// How long the connection had been in this state.
fn lasted_ms(what: &str, state: &str) -> Option<u64> {
    let (_, after) = what.rsplit_once("(after ")?;
    let (ms, rest) = after.split_once("ms in state ")?;
    if rest.strip_prefix(state)?.starts_with([')', ',']) { ms.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_does_not_cure_is_told_with_the_property_to_look_at() {
        for (said, told, is_lasting) in [
            (
                "sasl_ssl://kafka:9093/bootstrap: SASL authentication error: Authentication failed: Invalid username or \
                 password (after 301ms in state AUTH_REQ)",
                "broker kafka:9093 refuses the user name or the password: see properties.sasl.username and sasl.password",
                true,
            ),
            (
                "sasl_ssl://kafka:9093/1: SASL PLAIN mechanism handshake failed: Broker: Unsupported SASL mechanism: \
                 broker's supported mechanisms: SCRAM-SHA-256,SCRAM-SHA-512 (after 1ms in state AUTH_HANDSHAKE)",
                "broker kafka:9093 does not take properties.sasl.mechanism, only SCRAM-SHA-256,SCRAM-SHA-512",
                true,
            ),
            (
                "kafka:9093/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 1ms in state \
                 APIVERSION_QUERY)",
                "broker kafka:9093 closes the connection and may want TLS at this port: see properties.security.protocol",
                false,
            ),
            (
                "ssl://kafka:9093/bootstrap: Disconnected: SSL connection closed by peer (after 0ms in state UP, 3 identical \
                 error(s) suppressed)",
                "broker kafka:9093 closes the connection and may want a user name: see properties.security.protocol",
                false,
            ),
        ] {
            assert_eq!(Trouble::of(said), Some(Trouble { sentence: told.to_owned(), is_lasting }));
        }
    }

    #[test]
    fn a_broker_that_is_away_is_only_waited_for() {
        for said in [
            "kafka:9092/1: Connect to ipv4#10.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)",
            "kafka:9092/1: Disconnected: connection closed by peer: receive 0 after POLLIN (after 8000ms in state UP)",
            "Failed to resolve",
        ] {
            assert_eq!(Trouble::of(said), None);
        }
    }
}
