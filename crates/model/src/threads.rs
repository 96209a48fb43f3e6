//! Which thread a message belongs to.

use std::collections::HashMap;

/// What the thread of an interaction depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The system that knows it.
    pub system: String,
    /// The system's id of it.
    pub interaction_id: String,
    /// By what others refer to it.
    pub message_id: Option<String>,
    /// The message that it replies to.
    pub in_reply_to: Option<String>,
    /// The thread that it names, or its first reference.
    pub given_thread_id: Option<String>,
    /// The thread that it is known to be in.
    pub thread_id: Option<String>,
}

/// The threads of these messages, in their order: the one that is given, else that of the message replied to, else the message
/// itself. A message replied to that is not there stands for its own thread; of two with one id the first by interaction
/// counts; those that reply to each other in a circle are in the thread of the first id among them. So it is a function of
/// what is there, in whatever order it came.
///
/// `settled` are other messages that are replied to, whose known thread stands.
pub fn threads(messages: &[Message], settled: &[Message]) -> Vec<Option<String>> {
    let mut by_id: HashMap<(&str, &str), usize> = HashMap::new();
    let all: Vec<&Message> = messages.iter().chain(settled).collect();
    for (index, message) in all.iter().enumerate() {
        let Some(id) = &message.message_id else { continue };
        let first = by_id.entry((&message.system, id)).or_insert(index);
        if message.interaction_id < all[*first].interaction_id {
            *first = index;
        }
    }
    let mut threads: HashMap<usize, Option<&str>> = (messages.len()..).zip(settled.iter().map(known)).collect();
    for index in 0..messages.len() {
        let (path, thread) = follow(&all, &by_id, &threads, index);
        threads.extend(path.into_iter().map(|passed| (passed, thread)));
    }
    (0..messages.len()).map(|index| threads.get(&index).copied().flatten().map(str::to_owned)).collect()
}

fn known(message: &Message) -> Option<&str> {
    message.thread_id.as_deref().or(message.message_id.as_deref())
}

/// From a message to whatever decides its thread; also returns the messages on the way, which share it.
fn follow<'m>(
    all: &[&'m Message],
    by_id: &HashMap<(&str, &str), usize>,
    threads: &HashMap<usize, Option<&'m str>>,
    from: usize,
) -> (Vec<usize>, Option<&'m str>) {
    let mut path = Vec::new();
    let mut at = from;
    let mut passed: HashMap<usize, usize> = HashMap::new();
    loop {
        if let Some(thread) = threads.get(&at) {
            return (path, *thread);
        }
        if let Some(begin) = passed.get(&at) {
            let circle = path[*begin..].iter().filter_map(|index: &usize| all[*index].message_id.as_deref());
            let first = circle.min();
            return (path, first);
        }
        passed.insert(at, path.len());
        path.push(at);
        let message = all[at];
        let (None, Some(replied_to)) = (&message.given_thread_id, &message.in_reply_to) else {
            return (path, message.given_thread_id.as_deref().or(message.message_id.as_deref()));
        };
        match by_id.get(&(message.system.as_str(), replied_to.as_str())) {
            Some(parent) => at = *parent,
            None => return (path, Some(replied_to)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: &str, in_reply_to: Option<&str>, given: Option<&str>) -> Message {
        Message {
            system: "mail".to_owned(),
            interaction_id: format!("i-{id}"),
            message_id: Some(id.to_owned()),
            in_reply_to: in_reply_to.map(str::to_owned),
            given_thread_id: given.map(str::to_owned),
            thread_id: None,
        }
    }

    fn of(messages: &[Message], settled: &[Message]) -> Vec<String> {
        threads(messages, settled).into_iter().map(Option::unwrap_or_default).collect()
    }

    #[test]
    fn a_thread_is_given_or_that_of_the_message_replied_to_or_the_message() {
        let messages = [
            message("c", Some("b"), None),
            message("b", Some("a"), None),
            message("a", None, None),
            message("e", Some("d"), None),
            message("d", Some("a"), Some("root")),
            message("f", Some("gone"), None),
        ];
        assert_eq!(of(&messages, &[]), ["a", "a", "a", "root", "root", "gone"]);
    }

    #[test]
    fn what_is_settled_stands() {
        let settled = Message { thread_id: Some("old".to_owned()), ..message("a", None, None) };
        assert_eq!(of(&[message("b", Some("a"), None)], &[settled]), ["old"]);
    }

    #[test]
    fn circles_and_doubles_have_one_answer() {
        let circle = [message("b", Some("a"), None), message("a", Some("c"), None), message("c", Some("b"), None)];
        assert_eq!(of(&circle, &[]), ["a"; 3]);
        let tail = [message("t", Some("b"), None), circle[0].clone(), circle[1].clone(), circle[2].clone()];
        assert_eq!(of(&tail, &[]), ["a"; 4]);
        assert_eq!(of(&[message("a", Some("a"), None)], &[]), ["a"]);
        let mut double = message("a", None, Some("late"));
        double.interaction_id = "j".to_owned();
        let child = message("b", Some("a"), None);
        assert_eq!(of(&[double.clone(), message("a", None, Some("first")), child.clone()], &[])[2], "first");
        assert_eq!(of(&[child, message("a", None, Some("first")), double], &[])[0], "first");
    }

    #[test]
    fn what_has_no_id_and_replies_to_nothing_is_in_no_thread() {
        let call = Message { message_id: None, ..message("a", None, None) };
        assert_eq!(threads(&[call], &[]), [None]);
    }
}
