-- Threads of interactions. Invariant held here: thread_id is a function of the interactions of one system that are known,
-- whatever order they came in: given_thread_id, else the thread of the message that is replied to, else the message itself.

alter table customer360.interactions
    -- What the headers say. Bounded as xrefs.match_key is, because they are in indexes.
    add column message_id text
        constraint interactions_message_id_length check (octet_length(message_id) <= 2000),
    add column in_reply_to text
        constraint interactions_in_reply_to_length check (octet_length(in_reply_to) <= 2000),
    -- The thread that the record names, or its first reference.
    add column given_thread_id text;

-- Who is replied to, and whose thread follows whom.
create index interactions_message on customer360.interactions (system, message_id) where message_id is not null;
create index interactions_reply on customer360.interactions (system, in_reply_to) where in_reply_to is not null;
