import { present } from "../../../base/assert.ts";
import type { Clock } from "../../../base/clock.ts";
import { FsError } from "../../../domain/errors.ts";
import type { GetattrRequest, SetattrRequest, StatxRequest, Validity } from "../attribute-codec.ts";
import type { ReaddirRequest } from "../directory-codec.ts";
import type { FallocateRequest, LseekRequest, OpenRequest, ReadRequest, WriteRequest } from "../file-codec.ts";
import { FOPEN } from "../file-codec.ts";
import type { RequestHeader } from "../frame.ts";
import type { PlainRequest } from "../misc-codec.ts";
import type {
  CreateRequest,
  LinkRequest,
  LookupRequest,
  MkdirRequest,
  MknodRequest,
  RemoveRequest,
  RenameRequest,
  SymlinkRequest,
} from "../namespace-codec.ts";
import type { FuseOperations } from "../operations.ts";
import type { Reply } from "../reply.ts";
import type { GetxattrRequest, ListxattrRequest, RemovexattrRequest, SetxattrRequest } from "../xattr-codec.ts";
import { type ToyCommand, type ToyNode, ToyTree, toyAttributes } from "./toy-file-system.ts";

const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;
const S_IFLNK = 0o120000;
const S_IFMT = 0o170000;
const O_TRUNC = 0o1000;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const SEEK_DATA = 3;

/** The toy tree as operations on a connection. `validSec`: how long the kernel may keep entries and attributes. */
export class ToyOperations implements FuseOperations {
  readonly tree: ToyTree;
  readonly #clock: Clock;
  readonly #validity: Validity;

  constructor(options: { clock: Clock; validSec: number; logPath?: string | undefined }) {
    this.tree = new ToyTree(options.logPath);
    this.#clock = options.clock;
    this.#validity = { slot: 0, attributesSec: options.validSec, entrySec: options.validSec };
  }

  lookup(request: LookupRequest, reply: Reply): void {
    const ino = this.tree.get(request.header.ino).children?.get(request.name.toString("latin1"));
    if (ino === undefined) reply.noEntry(this.#validity.entrySec);
    else this.#entry(ino, reply);
  }

  getattr(request: GetattrRequest, reply: Reply): void {
    reply.attributes(toyAttributes(this.tree.get(request.header.ino)), this.#validity);
  }

  statx(request: StatxRequest, reply: Reply): void {
    reply.statx(toyAttributes(this.tree.get(request.header.ino)), this.#validity);
  }

  setattr(request: SetattrRequest, reply: Reply): void {
    const { ino } = request.header;
    const command: ToyCommand = { op: "set", ino };
    if (request.mode !== undefined) command.mode = request.mode;
    if (request.uid !== undefined) command.uid = request.uid;
    if (request.gid !== undefined) command.gid = request.gid;
    if (request.size !== undefined) command.size = Number(request.size);
    if (request.atime !== undefined) command.atime = request.atime === "now" ? this.#clock.now() : request.atime;
    if (request.mtime !== undefined) command.mtime = request.mtime === "now" ? this.#clock.now() : request.mtime;
    this.#execute(command, request.header);
    reply.attributes(toyAttributes(this.tree.get(ino)), this.#validity);
  }

  mknod(request: MknodRequest, reply: Reply): void {
    this.#entry(this.#make(request, { mode: request.mode & ~request.umask, rdev: request.rdev, target: "" }), reply);
  }

  mkdir(request: MkdirRequest, reply: Reply): void {
    this.#entry(this.#make(request, { mode: S_IFDIR | (request.mode & ~request.umask), rdev: 0, target: "" }), reply);
  }

  symlink(request: SymlinkRequest, reply: Reply): void {
    this.#entry(
      this.#make(request, { mode: S_IFLNK | 0o777, rdev: 0, target: request.target.toString("latin1") }),
      reply,
    );
  }

  create(request: CreateRequest, reply: Reply): void {
    const ino = this.#make(request, { mode: S_IFREG | (request.mode & ~request.umask & ~S_IFMT), rdev: 0, target: "" });
    reply.created(toyAttributes(this.tree.get(ino)), {
      validity: this.#validity,
      handle: ino,
      flags: FOPEN.KEEP_CACHE,
    });
  }

  link(request: LinkRequest, reply: Reply): void {
    const { header, sourceIno: ino } = request;
    this.#execute({ op: "link", ino, parent: header.ino, name: request.name.toString("latin1") }, header);
    this.#entry(ino, reply);
  }

  unlink(request: RemoveRequest, reply: Reply): void {
    const { header } = request;
    this.#execute(
      { op: "remove", parent: header.ino, name: request.name.toString("latin1"), directory: false },
      header,
    );
    reply.ok();
  }

  rmdir(request: RemoveRequest, reply: Reply): void {
    const { header } = request;
    this.#execute({ op: "remove", parent: header.ino, name: request.name.toString("latin1"), directory: true }, header);
    reply.ok();
  }

  rename(request: RenameRequest, reply: Reply): void {
    const { header, newParentIno: newParent, flags } = request;
    const names = { name: request.name.toString("latin1"), newName: request.newName.toString("latin1") };
    this.#execute({ op: "rename", parent: header.ino, newParent, flags, ...names }, header);
    reply.ok();
  }

  readlink(request: PlainRequest, reply: Reply): void {
    reply.data(Buffer.from(this.tree.get(request.header.ino).target, "latin1"));
  }

  open(request: OpenRequest, reply: Reply): void {
    const { ino } = request.header;
    if ((request.flags & O_TRUNC) !== 0) this.#execute({ op: "set", ino, size: 0 }, request.header);
    reply.opened(ino, FOPEN.KEEP_CACHE | FOPEN.NOFLUSH);
  }

  read(request: ReadRequest, reply: Reply): void {
    const node = this.tree.get(request.header.ino);
    const from = Math.min(Number(request.offset), node.size);
    reply.data(node.data.subarray(from, Math.min(from + request.size, node.size)));
  }

  write(request: WriteRequest, reply: Reply): void {
    const { header, data } = request;
    const offset = Number(request.offset);
    if (this.tree.logged)
      this.#execute({ op: "write", ino: header.ino, offset, data: data.toString("latin1") }, header);
    else this.tree.writeUnlogged(this.tree.get(header.ino), offset, { data, time: this.#clock.now() });
    reply.written(data.length);
  }

  release(_request: unknown, reply: Reply): void {
    reply.ok();
  }

  fsync(_request: unknown, reply: Reply): void {
    reply.ok();
  }

  fallocate(request: FallocateRequest, reply: Reply): void {
    const { header, mode } = request;
    const node = this.tree.get(header.ino);
    const offset = Number(request.offset);
    const end = offset + Number(request.length);
    if ((mode & FALLOC_PUNCH_HOLE) !== 0) {
      const data = "\0".repeat(Math.max(0, Math.min(end, node.size) - offset));
      this.#execute({ op: "write", ino: header.ino, offset, data }, header);
    } else if ((mode & FALLOC_KEEP_SIZE) === 0 && end > node.size) {
      this.#execute({ op: "set", ino: header.ino, size: end }, header);
    }
    reply.ok();
  }

  lseek(request: LseekRequest, reply: Reply): void {
    const size = BigInt(this.tree.get(request.header.ino).size);
    if (request.offset >= size) throw FsError.of("ENXIO");
    reply.position(request.whence === SEEK_DATA ? request.offset : size);
  }

  readdir(request: ReaddirRequest, reply: Reply): void {
    this.#list(request, reply, false);
  }

  readdirplus(request: ReaddirRequest, reply: Reply): void {
    this.#list(request, reply, true);
  }

  getxattr(request: GetxattrRequest, reply: Reply): void {
    const value = this.tree.get(request.header.ino).xattrs.get(request.name.toString("latin1"));
    if (value === undefined) throw FsError.of("ENODATA");
    this.#sized(value, request.sizeBytes, reply);
  }

  listxattr(request: ListxattrRequest, reply: Reply): void {
    const names = [...this.tree.get(request.header.ino).xattrs.keys()];
    this.#sized(Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1"), request.sizeBytes, reply);
  }

  setxattr(request: SetxattrRequest, reply: Reply): void {
    const { header, flags } = request;
    const command = { name: request.name.toString("latin1"), value: request.value.toString("latin1"), flags };
    this.#execute({ op: "setxattr", ino: header.ino, ...command }, header);
    reply.ok();
  }

  removexattr(request: RemovexattrRequest, reply: Reply): void {
    this.#execute(
      { op: "removexattr", ino: request.header.ino, name: request.name.toString("latin1") },
      request.header,
    );
    reply.ok();
  }

  statfs(_request: PlainRequest, reply: Reply): void {
    const blocks = { blocksTotal: 1_000_000n, blocksFree: 500_000n, blocksAvailable: 500_000n };
    reply.space({ blockBytes: 4096, ...blocks, inodesTotal: 1000n, inodesFree: 500n, nameBytesMax: 255 });
  }

  #execute(command: ToyCommand, header: RequestHeader): number {
    return this.tree.execute(command, { unique: header.unique, resent: header.resent, time: this.#clock.now() });
  }

  #make(
    request: { header: RequestHeader; name: Buffer },
    node: { mode: number; rdev: number; target: string },
  ): number {
    const { header } = request;
    const owner = { uid: header.uid, gid: header.gid };
    return this.#execute(
      { op: "make", parent: header.ino, name: request.name.toString("latin1"), ...owner, ...node },
      header,
    );
  }

  #entry(ino: number, reply: Reply): void {
    reply.entry(toyAttributes(this.tree.get(ino)), this.#validity);
  }

  #sized(value: Buffer, sizeBytes: number, reply: Reply): void {
    if (sizeBytes === 0) reply.xattrSize(value.length);
    else if (value.length > sizeBytes) throw FsError.of("ERANGE");
    else reply.data(value);
  }

  #list(request: ReaddirRequest, reply: Reply, plus: boolean): void {
    const directory = this.tree.get(request.header.ino);
    const names: [string, ToyNode][] = [
      [".", directory],
      ["..", this.tree.get(directory.parent)],
    ];
    for (const [name, ino] of present(directory.children, "directory")) names.push([name, this.tree.get(ino)]);
    const out = reply.directory(request.sizeBytes);
    for (let index = Number(request.cookie); index < names.length; index++) {
      const [name, node] = names[index] as [string, ToyNode];
      const item = {
        name: Buffer.from(name, "latin1"),
        slot: 0,
        ino: node.ino,
        type: node.mode >> 12,
        cookie: BigInt(index + 1),
      };
      const detail = index < 2 ? undefined : { attributes: toyAttributes(node), validity: this.#validity };
      if (!(plus ? out.addPlus(item, detail) : out.add(item))) break;
    }
    reply.directoryDone();
  }
}
