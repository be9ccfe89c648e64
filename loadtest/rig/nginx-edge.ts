/**
 * The edge to compare with: nginx and Lua verify GitHub's signature, remove repeats with SET NX EX, and RPUSH. One process.
 * Debian's packages: apt-get install nginx libnginx-mod-http-lua lua-resty-core lua-nginx-redis
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../../test/support/eventually.ts";
import { freePort, type Spawned, spawnProcess } from "../../test/support/processes.ts";
import { processUsage, type Usage } from "../checks/usage.ts";

export class NginxEdge {
  readonly port: number;
  readonly #process: Spawned;
  readonly #folder: string;

  private constructor(port: number, process: Spawned, folder: string) {
    this.port = port;
    this.#process = process;
    this.#folder = folder;
  }

  /** @throws where nginx or a package of it is missing */
  static async start(redisUrl: string, secret: string): Promise<NginxEdge> {
    try {
      execFileSync("nginx", ["-v"], { stdio: "ignore" });
    } catch (cause) {
      const packages = "nginx libnginx-mod-http-lua lua-resty-core lua-nginx-redis";
      throw new Error(`the comparison needs nginx: apt-get install ${packages}, or set RIVAL=0`, { cause });
    }
    const port = await freePort();
    const folder = mkdtempSync(join(tmpdir(), "tidegate-nginx-"));
    const file = join(folder, "nginx.conf");
    writeFileSync(join(folder, "hook.lua"), edgeScript(Number(new URL(redisUrl).port), secret));
    writeFileSync(file, configuration(folder, port));
    const spawned = spawnProcess("nginx", ["-p", folder, "-c", file]);
    const edge = new NginxEdge(port, spawned, folder);
    try {
      await eventually(async () => spawned.child.exitCode !== null || (await accepts(port)));
      if (spawned.child.exitCode !== null) throw new Error("it ended");
    } catch (cause) {
      await edge.stop();
      throw new Error(`nginx did not start: ${spawned.output()}`, { cause });
    }
    return edge;
  }

  get usage(): Usage | undefined {
    return this.#process.child.pid === undefined ? undefined : processUsage(this.#process.child.pid);
  }

  async stop(): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.exited;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("close", () => undefined);
    socket.once("connect", () => socket.destroy());
  });
}

function configuration(folder: string, port: number): string {
  return `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log stderr error;
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
events { worker_connections 4096; }
http {
  access_log off;
  keepalive_requests 1000000000;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxy;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
  client_body_buffer_size 64k;
  client_max_body_size 1m;
  lua_package_path "/usr/share/lua/5.1/?.lua;;";
  lua_socket_pool_size 256;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location /hooks/ { content_by_lua_file ${folder}/hook.lua; }
  }
}
`;
}

function edgeScript(redisPort: number, secret: string): string {
  return `local ffi = require "ffi"
local redis = require "nginx.redis"
if not pcall(ffi.typeof, "tidegate_hmac_declared") then
  ffi.cdef[[
    typedef int tidegate_hmac_declared;
    const void *EVP_sha256(void);
    unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *d, size_t n, unsigned char *out, unsigned int *out_len);
    int CRYPTO_memcmp(const void *a, const void *b, size_t len);
    unsigned char *ngx_hex_dump(unsigned char *dst, const unsigned char *src, size_t len);
  ]]
end
local secret = ${JSON.stringify(secret)}
local digest, hex = ffi.new("unsigned char[32]"), ffi.new("unsigned char[64]")

ngx.req.read_body()
local body = ngx.req.get_body_data()
local given = ngx.var.http_x_hub_signature_256
if not body or not given or #given ~= 71 then return ngx.exit(401) end
ffi.C.HMAC(ffi.C.EVP_sha256(), secret, #secret, body, #body, digest, nil)
ffi.C.ngx_hex_dump(hex, digest, 32)
if ffi.C.CRYPTO_memcmp(string.sub(given, 8), hex, 64) ~= 0 then return ngx.exit(401) end

local store = redis:new()
if not store:connect("127.0.0.1", ${redisPort}) then return ngx.exit(503) end
local first, failure = store:set("id:" .. ngx.var.http_x_github_delivery, "1", "EX", 600, "NX")
if failure then return ngx.exit(503) end
if first ~= ngx.null and not store:rpush("queue", body) then return ngx.exit(503) end
store:set_keepalive(60000, 256)
ngx.status = 202
ngx.header.content_length = 0
ngx.exit(202)
`;
}
