-- What the first release wrote, beside its batches. The highest number of work was given to a batch that is gone.
UPDATE meta SET value = 4 WHERE name = 'incarnation';
UPDATE meta SET value = 31 WHERE name = 'touches';
INSERT INTO sessions VALUES
    ('s', 2, 2, 3, 'initial', '{"model":"m"}', '{"n":[1,null,"ü"]}',
     '{"totals":{"input_tokens":5,"output_tokens":0,"cached_input_tokens":0,"reasoning_tokens":0,"requests":2},"by_model":{}}',
     'the title', 900, 950, 30),
    ('quiet', 0, 0, 0, 'initial', '{}', '{}',
     '{"totals":{"input_tokens":0,"output_tokens":0,"cached_input_tokens":0,"reasoning_tokens":0,"requests":0},"by_model":{}}',
     '', 800, 800, 31);
INSERT INTO deleted_sessions VALUES ('gone', 700);
INSERT INTO messages VALUES
    ('s', 1, 'm1', '{"message_id":"m1","role":"user","content":"question","at_ms":910}'),
    ('s', 2, 'm2', '{"message_id":"m2","role":"assistant","content":"answer “ü”","parts":[{"type":"text","text":"x"}],"at_ms":920}'),
    ('s', 3, 'm3', '{"message_id":"m3","role":"assistant","content":"","turn_id":"t2","status":"failed","error":{"code":"c","message":"m"},"at_ms":930}');
INSERT INTO turns VALUES ('s', 't1', 'hash', 'completed', 1, 1, 'initial'), ('s', 't2', 'hash', 'cancelled', 2, 2, 'initial');
INSERT INTO cancelled_keys VALUES ('s', 'host:later', 940), ('s', 'host:came', 940);
DELETE FROM batches WHERE enqueue_seq = 41;
