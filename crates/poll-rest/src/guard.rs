//! Where requests may go: a source's name is looked up by us, and what it leads to is what is connected to.
//!
//! A name on the Internet that leads to a machine of this network, or to the metadata service of a cloud, is somebody's
//! attempt to have us read what is not theirs: refused, unless the configuration says that the source is inside. What has
//! been looked up is connected to, so a name that leads elsewhere the second time gains nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Who is behind an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Anybody.
    Public,
    /// This machine or its network.
    Private,
    /// Nobody who answers questions about customers: link-local addresses (where clouds keep their metadata), multicast
    /// and the like.
    Never,
}

/// An address that a source must not lead to. Says so, and nothing about the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedAddress;

impl fmt::Display for RefusedAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name leads to an address that it must not lead to")
    }
}

impl std::error::Error for RefusedAddress {}

type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Looks up the names that requests go to.
#[derive(Clone)]
pub(crate) struct Guard {
    /// The host that is guarded. Any other name is that of a proxy which the machine is configured for.
    host: String,
    may_be_private: bool,
    lookup: Lookup,
}

impl Guard {
    /// For requests to a URL. A host that is inside by its own name (`localhost`, a name without a dot, an address) may be
    /// private without saying so.
    pub(crate) fn new(url: &Url, may_be_private: bool) -> Self {
        let host = url.host_str().unwrap_or_default().to_owned();
        let may_be_private = may_be_private || is_inside_by_name(&host);
        Self { host, may_be_private, lookup: Arc::new(|host| Box::pin(look_up(host))) }
    }

    /// Whether a URL goes to an address, written as such, that no source can have. Addresses are not looked up.
    pub(crate) fn refuses(url: &Url) -> bool {
        url.host_str().and_then(address).is_some_and(|address| reach(address) == Reach::Never)
    }

    fn allows(&self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => true,
            Reach::Private => self.may_be_private,
            Reach::Never => false,
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = (guard.lookup)(name.as_str().to_owned()).await?;
            if name.as_str() != guard.host {
                return Ok(Box::new(found.into_iter()) as Addrs);
            }
            let was_found = !found.is_empty();
            let allowed: Vec<SocketAddr> = found.into_iter().filter(|found| guard.allows(found.ip())).collect();
            if was_found && allowed.is_empty() {
                return Err(RefusedAddress.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// A URL that an answer of ours has named, if it is on the same host: our credentials go nowhere else.
pub(crate) fn on_host_of(ours: &Url, named: &str) -> Option<Url> {
    let mut url = ours.join(named).ok()?;
    let is_ours = url.scheme() == ours.scheme()
        && url.host_str() == ours.host_str()
        && url.port_or_known_default() == ours.port_or_known_default()
        && url.username() == ours.username()
        && url.password() == ours.password();
    url.set_fragment(None);
    is_ours.then_some(url)
}

async fn look_up(host: String) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((host, 0)).await?.collect())
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn is_inside_by_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    !host.contains('.') || host.ends_with(".localhost") || address(host).is_some()
}

fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => match embedded(address) {
            Some(address) => reach_v4(address),
            None => reach_v6(address),
        },
    }
}

/// By IANA's registry of special-purpose addresses.
fn reach_v4(address: Ipv4Addr) -> Reach {
    match address.octets() {
        [0 | 224..=255, ..] | [169, 254, ..] => Reach::Never,
        [10 | 127, ..]
        | [100, 64..=127, ..]
        | [172, 16..=31, ..]
        | [192, 168, ..]
        | [192, 0, 0 | 2, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Reach::Private,
        _ => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] | [0xfe80..=0xfebf | 0xff00..=0xffff, ..] => Reach::Never,
        // Global unicast, without Teredo, documentation and the rest of 2001::/23.
        [0x2001, 0..=0x1ff | 0xdb8, ..] => Reach::Private,
        [0x2000..=0x3ffe, ..] => Reach::Public,
        _ => Reach::Private,
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped, compatible, translated (NAT64) or 6to4.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // :: and ::1 are addresses of their own.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            Some(v4(high, low))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn addresses_of_this_network_are_private_however_they_are_written_and_metadata_is_never_reached() {
        for (text, expected) in [
            ("8.8.8.8", Reach::Public),
            ("2606:4700::1111", Reach::Public),
            ("127.0.0.1", Reach::Private),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("::1", Reach::Private),
            ("fd00:ec2::254", Reach::Private),
            ("::ffff:127.0.0.1", Reach::Private),
            ("::127.0.0.1", Reach::Private),
            ("64:ff9b::a00:1", Reach::Private),
            ("2002:7f00:1::", Reach::Private),
            ("2001:0:53aa:64c::1", Reach::Private),
            ("169.254.169.254", Reach::Never),
            ("::ffff:169.254.169.254", Reach::Never),
            ("fe80::1", Reach::Never),
            ("0.0.0.0", Reach::Never),
            ("::", Reach::Never),
            ("224.0.0.1", Reach::Never),
            ("255.255.255.255", Reach::Never),
            ("ff02::1", Reach::Never),
        ] {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn a_host_that_is_inside_by_its_name_needs_no_leave() {
        for (url, expected) in [
            ("http://localhost:8081", true),
            ("http://store:8081", true),
            ("http://10.0.0.7", true),
            ("http://[::1]:80", true),
            ("http://2130706433/", true),
            ("https://api.example.com", false),
            ("https://10.0.0.7.example.com", false),
        ] {
            assert_eq!(Guard::new(&Url::parse(url).unwrap(), false).may_be_private, expected, "{url}");
        }
        assert!(Guard::refuses(&Url::parse("http://169.254.169.254/latest").unwrap()));
        assert!(Guard::refuses(&Url::parse("http://[::ffff:169.254.169.254]/latest").unwrap()));
        assert!(!Guard::refuses(&Url::parse("http://127.0.0.1").unwrap()));
    }

    /// A guard of `api.example.com`, which leads to these addresses one after another.
    fn led_to(addresses: &[&[&str]], may_be_private: bool) -> Guard {
        let parse = |text: &&str| SocketAddr::new(text.parse().unwrap(), 0);
        let answers: Vec<Vec<SocketAddr>> = addresses.iter().rev().map(|a| a.iter().map(parse).collect()).collect();
        let answers = Arc::new(Mutex::new(answers));
        let lookup: Lookup = Arc::new(move |_| {
            let next = answers.lock().unwrap().pop().unwrap_or_default();
            Box::pin(async move { Ok(next) })
        });
        Guard { lookup, ..Guard::new(&Url::parse("http://api.example.com").unwrap(), may_be_private) }
    }

    async fn resolved(guard: &Guard, name: &str) -> Result<Vec<String>, String> {
        let addresses = guard.resolve(name.parse().unwrap()).await.map_err(|error| error.to_string())?;
        Ok(addresses.map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_refused_and_of_several_addresses_those_outside_stay() {
        let guard = led_to(&[&["8.8.8.8"], &["127.0.0.1"], &["10.0.0.1", "8.8.8.8"], &["169.254.169.254"]], false);
        assert_eq!(resolved(&guard, "api.example.com").await.unwrap(), ["8.8.8.8"]);
        assert_eq!(resolved(&guard, "api.example.com").await.unwrap_err(), RefusedAddress.to_string());
        assert_eq!(resolved(&guard, "api.example.com").await.unwrap(), ["8.8.8.8"]);
        assert!(resolved(&guard, "api.example.com").await.is_err());

        let guard = led_to(&[&["127.0.0.1"], &["169.254.169.254"]], true);
        assert_eq!(resolved(&guard, "api.example.com").await.unwrap(), ["127.0.0.1"]);
        assert!(resolved(&guard, "api.example.com").await.is_err(), "metadata is nobody's source");

        let guard = led_to(&[&["10.0.0.1"]], false);
        assert_eq!(resolved(&guard, "proxy.corp.example").await.unwrap(), ["10.0.0.1"], "a proxy is the machine's own");
    }

    #[tokio::test]
    async fn a_name_that_leads_elsewhere_the_second_time_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let guard = led_to(&[&["127.0.0.1"], &["127.0.0.1"]], false);
        // An error means that another test has chosen a provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().dns_resolver(guard).build().unwrap();
        let error = client.get(format!("http://api.example.com:{port}/")).send().await.unwrap_err();
        assert!(matches!(crate::client::failure_of(&error), crate::error::Failure::Address), "{error:?}");
        let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "something was connected");
    }
}
