import { spawn } from "node:child_process";
import { closeSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemClock } from "../../../base/clock.ts";
import { ERRNO } from "../../../domain/errors.ts";
import { FuseConnection } from "../connection.ts";
import { fuseDeviceIo } from "../device.ts";
import type { WriteRequest } from "../file-codec.ts";
import { RequestFrame } from "../frame.ts";
import { MAX_WRITE_BYTES } from "../init.ts";
import type { LockRequest } from "../lock-codec.ts";
import { mountFuse, unmountFuse } from "../mount.ts";
import { opcodeName } from "../opcodes.ts";
import { type Reply, ReplyWriter } from "../reply.ts";
import { Wire } from "../wire.ts";
import { ToyOperations } from "./toy-operations.ts";

/**
 * Records a request of each opcode that this kernel sends and writes them, as "OPCODE hex", to the file given as argument (with pids zeroed):
 * the input of codec.test.ts. Run by hand, as root, when a kernel with a newer protocol is at hand:
 *     node src/gateway/fuse/testing/capture-golden.ts src/gateway/fuse/golden/requests-7.45.txt
 */
const FRAME_BYTES_KEPT = 4096;

const SCRIPT = `
import ctypes, fcntl, os, select, signal, subprocess, sys, time
os.chdir(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
def attempt(action):
    try: return action()
    except OSError: return None
os.mkdir('dir', 0o751)
f = os.open('file', os.O_CREAT | os.O_RDWR, 0o640)
os.pwrite(f, b'far', 1 << 33)
os.write(f, b'hello world')
os.fsync(f); os.fdatasync(f)
os.pread(f, 5, 6)
os.posix_fallocate(f, 100, 200)
os.lseek(f, 0, os.SEEK_HOLE)
os.fchmod(f, 0o600); os.fchown(f, 12, 34); os.ftruncate(f, 7)
os.utime(f, ns=(-1500000000, 1700000000123456789))
g = os.open('other', os.O_CREAT | os.O_RDWR, 0o644)
attempt(lambda: os.copy_file_range(f, g, 7, 3, 4))
attempt(lambda: os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600))
os.setxattr('file', 'user.color', b'blue')
os.getxattr('file', 'user.color'); os.listxattr('file'); os.removexattr('file', 'user.color')
os.symlink('some/target', 'symlink'); os.readlink('symlink')
os.link('file', 'hard'); os.mknod('fifo', 0o10644); os.mknod('null', 0o20666, os.makedev(1, 3))
os.rename('hard', 'harder')
libc.renameat2(-100, b'harder', -100, b'dir/hardest', 1)
os.listdir('.'); os.statvfs('.')
d = os.open('dir', os.O_RDONLY); os.fsync(d); os.close(d)
subprocess.run(['stat', '-c', '%W', 'file'], stdout=subprocess.DEVNULL)
attempt(lambda: fcntl.ioctl(f, 0x80086601, b'\\0' * 8))
p = select.poll(); p.register(f, select.POLLIN); p.poll(0)
fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
attempt(lambda: fcntl.fcntl(f, fcntl.F_GETLK, b'\\0' * 32))
def interrupted(*_): raise InterruptedError
signal.signal(signal.SIGALRM, interrupted); signal.setitimer(signal.ITIMER_REAL, 0.2)
attempt(lambda: fcntl.lockf(f, fcntl.LOCK_EX, 3))
attempt(lambda: fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB))
os.close(f); os.unlink('file')
open('/proc/sys/vm/drop_caches', 'w').write('2')
os.rename('other', 'dir/other'); os.unlink('dir/other'); os.unlink('dir/hardest'); os.rmdir('dir')
`;

class CaptureOperations extends ToyOperations {
  /** The script writes at 8 GiB to show a 64-bit offset; the toy would allocate that. */
  override write(request: WriteRequest, reply: Reply): void {
    if (request.offset > 1_000_000n) reply.written(request.data.length);
    else super.write(request, reply);
  }

  setlk(_request: LockRequest, reply: Reply): void {
    reply.ok();
  }

  getlk(request: LockRequest, reply: Reply): void {
    reply.lock({ ...request.lock, type: 2 });
  }

  async setlkw(_request: LockRequest, reply: Reply): Promise<void> {
    await new Promise((done) => reply.signal.addEventListener("abort", done, { once: true }));
    reply.error(4);
  }
}

/** The name to keep a request under: the first of each opcode; of SETATTR, which has many shapes, four. */
function variantOf(opcode: string): string | undefined {
  const names = opcode === "SETATTR" ? [opcode, `${opcode}#2`, `${opcode}#3`, `${opcode}#4`] : [opcode];
  return names.find((name) => !captured.has(name));
}

const captured = new Map<string, string>();
const output = process.argv[2];
if (output === undefined) throw new Error("usage: capture-golden.ts FILE");
const target = mkdtempSync(join(tmpdir(), "tidemark-capture-"));
const io = fuseDeviceIo();
const options = { target, source: "capture", readOnly: false, suid: false, dev: false, locks: "service" } as const;
const mounted = await mountFuse(options, { io, nonBlocking: true });
const operations = new CaptureOperations({ clock: new SystemClock(), validSec: 1 });
const connection = new FuseConnection(
  { fd: mounted.fd, negotiated: mounted.negotiated, operations },
  new ReplyWriter(io),
);
const wire = new Wire(MAX_WRITE_BYTES + FRAME_BYTES_KEPT);
const child = spawn("python3", ["-c", SCRIPT, target], { stdio: ["ignore", "inherit", "inherit"] });
let running = true;
child.once("close", () => {
  running = false;
});
while (running) {
  const count = io.read(mounted.fd, wire.bytes);
  if (count < 0) {
    if (count !== -ERRNO.EAGAIN && count !== -ERRNO.ENOENT) break;
    await new Promise((done) => setImmediate(done));
    continue;
  }
  const frame = new RequestFrame(wire, 0, count);
  const name = variantOf(opcodeName(frame.header.opcode) ?? String(frame.header.opcode));
  const copy = Buffer.from(wire.bytes.subarray(0, count));
  copy.writeUInt32LE(0, 32);
  if (name !== undefined && count <= FRAME_BYTES_KEPT) captured.set(name, copy.toString("hex"));
  connection.handle(frame, () => () => {});
}
void unmountFuse(mounted.target, { lazy: true }).then(() => {
  closeSync(mounted.fd);
  rmSync(target, { recursive: true });
  const lines = [...captured].map(([name, hex]) => `${name} ${hex}`).sort();
  writeFileSync(output, `${lines.join("\n")}\n`);
  console.log(lines.map((line) => line.split(" ")[0]).join(" "));
});
