/** What is said where something between the reader and PostgreSQL refuses the connection. */
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { connectPostgres } from "../../private-api/sources/postgres-connection.ts";

test("SQL-15: a pooler that refuses the settings of the reader is named, with what to set there", async () => {
  const fields = ["SFATAL", "C08P01", "Munsupported startup parameter: statement_timeout", ""].join("\0");
  const text = Buffer.from(`${fields}\0`);
  const head = Buffer.alloc(5, "E");
  head.writeInt32BE(4 + text.length, 1);
  const pooler = createServer((socket) => void socket.once("data", () => socket.end(Buffer.concat([head, text]))));
  onTestFinished(() => void pooler.close());
  pooler.listen(0, "127.0.0.1");
  await once(pooler, "listening");
  const { port } = pooler.address() as AddressInfo;
  await expect(connectPostgres({ url: `postgres://u@127.0.0.1:${port}/crm`, name: "test" })).rejects.toMatchObject({
    name: "SourceRefused",
    message: expect.stringContaining("ignore_startup_parameters = options,statement_timeout,idle_in_transaction_"),
  });
});
