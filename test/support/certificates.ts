/** An authority of the test's own, and a certificate for servers and clients on this machine. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnProcess } from "./processes.ts";

export interface Certificates {
  /** Files in PEM form. */
  readonly files: { readonly ca: string; readonly cert: string; readonly key: string };
  readonly pem: { readonly ca: string; readonly cert: string; readonly key: string };
  stop(): Promise<void>;
}

export async function makeCertificates(): Promise<Certificates> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-certificates-"));
  const file = (name: string): string => join(folder, name);
  const openssl = async (...args: string[]): Promise<void> => {
    const run = spawnProcess("openssl", args, { cwd: folder });
    if ((await run.exited) !== 0) throw new Error(`openssl ${args.join(" ")}:\n${run.output()}`);
  };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl("req", "-x509", ...newKey, "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=test", "-days", "2");
  await openssl("req", ...newKey, "-keyout", "redis.key", "-out", "redis.csr", "-subj", "/CN=redis");
  await writeFile(file("names"), "subjectAltName=IP:127.0.0.1,IP:::1,DNS:localhost");
  const signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"];
  await openssl("x509", "-req", "-in", "redis.csr", "-out", "redis.crt", ...signed);
  const files = { ca: file("ca.crt"), cert: file("redis.crt"), key: file("redis.key") };
  const [ca, cert, key] = await Promise.all(Object.values(files).map((name) => readFile(name, "utf8")));
  return {
    files,
    pem: { ca: ca ?? "", cert: cert ?? "", key: key ?? "" },
    stop: async () => rm(folder, { recursive: true, force: true }),
  };
}
