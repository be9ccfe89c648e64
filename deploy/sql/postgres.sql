-- The table of a SQL source on PostgreSQL 13 or later, and two ways to fill it. Run it once per shard, as the owner of the application's tables.
-- `psql -v ON_ERROR_STOP=1 -f deploy/sql/postgres.sql` may be repeated.

CREATE TABLE IF NOT EXISTS transactions (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The transaction that wrote the row. Not xmin: inside a savepoint that is another number, and the row would be lost.
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  account_id text NOT NULL,
  object_type text NOT NULL,
  object_id text NOT NULL,
  action text NOT NULL,
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
-- Each read of the source goes by it.
CREATE INDEX IF NOT EXISTS transactions_xid ON transactions (xid, id);
-- For the check of writes that bypassed the log.
CREATE INDEX IF NOT EXISTS transactions_object ON transactions (object_type, object_id);

-- 1. A function to call inside the application's own transaction.
CREATE OR REPLACE FUNCTION tidegate_log(account_id text, object_type text, object_id text, action text, payload jsonb)
RETURNS void LANGUAGE sql AS $$
  INSERT INTO transactions (account_id, object_type, object_id, action, payload) VALUES ($1, $2, $3, $4, $5);
$$;

-- 2. A trigger that logs every write of a table, whoever makes it. Arguments: object type, column of the account, column of the object.
--    CREATE TRIGGER tidegate_log AFTER INSERT OR UPDATE OR DELETE ON contacts
--      FOR EACH ROW EXECUTE FUNCTION tidegate_log_row('contact', 'account_id', 'id');
CREATE OR REPLACE FUNCTION tidegate_log_row() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  written jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
BEGIN
  PERFORM tidegate_log(
    written ->> TG_ARGV[1],
    TG_ARGV[0],
    written ->> TG_ARGV[2],
    CASE TG_OP WHEN 'INSERT' THEN 'created' WHEN 'UPDATE' THEN 'updated' ELSE 'deleted' END,
    written
  );
  RETURN NULL;
END $$;

-- Optional, with `notify: tidegate` in the rules: the reader is woken at once instead of within 0.25 s. Commits that notify wait for each
-- other: leave it out where a database commits thousands of times a second.
--    CREATE TRIGGER tidegate_notify AFTER INSERT ON transactions FOR EACH STATEMENT EXECUTE FUNCTION tidegate_notify('tidegate');
CREATE OR REPLACE FUNCTION tidegate_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify(TG_ARGV[0], '');
  RETURN NULL;
END $$;

-- The reader's user needs no more than this:
--    GRANT SELECT ON transactions TO tidegate;
