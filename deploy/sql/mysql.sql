-- The table of a SQL source on MySQL 8 or MariaDB 10.5 or later, and a procedure to fill it. Run it once per shard:
-- `mysql crm < deploy/sql/mysql.sql` may be repeated.

CREATE TABLE IF NOT EXISTS transactions (
  id bigint unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY,
  account_id varchar(191) NOT NULL,
  object_type varchar(64) NOT NULL,
  object_id varchar(191) NOT NULL,
  action varchar(32) NOT NULL,
  payload json NOT NULL,
  created_at timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3),
  -- For the check of writes that bypassed the log.
  KEY transactions_object (object_type, object_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4;

-- 1. A procedure to call inside the application's own transaction: CALL tidegate_log('7', 'contact', '12', 'updated', '{"name":"Ada"}').
DROP PROCEDURE IF EXISTS tidegate_log;
-- Without a character set a parameter has the one of the database, which may lack characters.
CREATE PROCEDURE tidegate_log(
  IN account_id varchar(191) CHARACTER SET utf8mb4,
  IN object_type varchar(64) CHARACTER SET utf8mb4,
  IN object_id varchar(191) CHARACTER SET utf8mb4,
  IN action varchar(32) CHARACTER SET utf8mb4,
  IN payload json
)
  INSERT INTO transactions (account_id, object_type, object_id, action, payload) VALUES (account_id, object_type, object_id, action, payload);

-- 2. Triggers that log every write of a table, whoever makes it. Columns are named one by one: MySQL has no row as JSON.
--    CREATE TRIGGER contacts_tidegate_insert AFTER INSERT ON contacts FOR EACH ROW
--      CALL tidegate_log(NEW.account_id, 'contact', NEW.id, 'created', JSON_OBJECT('id', NEW.id, 'name', NEW.name));
--    CREATE TRIGGER contacts_tidegate_update AFTER UPDATE ON contacts FOR EACH ROW
--      CALL tidegate_log(NEW.account_id, 'contact', NEW.id, 'updated', JSON_OBJECT('id', NEW.id, 'name', NEW.name));
--    CREATE TRIGGER contacts_tidegate_delete AFTER DELETE ON contacts FOR EACH ROW
--      CALL tidegate_log(OLD.account_id, 'contact', OLD.id, 'deleted', JSON_OBJECT('id', OLD.id, 'name', OLD.name));

-- The reader's user needs no more than this. PROCESS lets it see which transactions are open: without it no gap among the ids could be closed.
--    GRANT SELECT ON crm.transactions TO 'tidegate'@'%';
--    GRANT PROCESS ON *.* TO 'tidegate'@'%';
