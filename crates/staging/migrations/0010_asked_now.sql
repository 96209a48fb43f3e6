-- Somebody waits for an answer: since when a poll is due out of its turn. The outcome of the poll clears it. Until then, and
-- if that is not long ago, whoever asks too waits for the same answer: to make the poll due once more would fence it.
alter table staging.polls add column asked_now_at timestamptz;
