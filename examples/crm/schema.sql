-- The tables of the service. The log, `transactions`, and its functions come from deploy/sql/postgres.sql.
CREATE TABLE IF NOT EXISTS deals (
  id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  account_id text NOT NULL,
  name text NOT NULL,
  stage text NOT NULL DEFAULT 'lead' CHECK (stage IN ('lead', 'offer', 'won')),
  amount integer NOT NULL CHECK (amount >= 0),
  -- Grows with each change: a page that gets a change twice, or late, knows which one is newer.
  version integer NOT NULL DEFAULT 1
);
CREATE INDEX IF NOT EXISTS deals_account ON deals (account_id, id);

CREATE OR REPLACE TRIGGER tidegate_notify AFTER INSERT ON transactions FOR EACH STATEMENT EXECUTE FUNCTION tidegate_notify('tidegate');
