/*
 * A small pass-through file system, the yardstick of `npm run bench`: what a FUSE server in C costs that does nothing
 * but hand every call on to a directory. Not a product: no protection against a backing tree that changes behind it.
 *
 *   passthrough BACKING MOUNTPOINT default   libfuse as it comes: its timeouts (1 s), its threads, its cache rules
 *   passthrough BACKING MOUNTPOINT tuned     multi-threaded with one /dev/fuse descriptor per thread, and the caching
 *                                            Tidemark asks the kernel for: day-long entry, attribute and negative
 *                                            timeouts, keep-cache, no flush on close, cached symlinks and directories
 *
 * The path-based API on purpose: an O_PATH descriptor per inode (as in libfuse's passthrough_ll) runs into RLIMIT_NOFILE.
 * Runs in the foreground until it is unmounted. Exit status: that of fuse_main.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 35
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>
#include <unistd.h>

static int root_fd;
static bool tuned;
/* One day: longer than any run, so that it never expires while a row is measured. */
static const double TUNED_TIMEOUT_S = 86400;

/* Paths come as "/a/b"; the *at() calls want them relative to the backing directory. */
static const char *rel(const char *path) { return path[1] ? path + 1 : "."; }
static int result(long r) { return r == -1 ? -errno : 0; }

/* The server is root: what a user creates must be the user's (default_permissions lets the kernel check the rest). */
static int give(const char *path) {
  struct fuse_context *caller = fuse_get_context();
  if (caller->uid == 0 && caller->gid == 0) return 0;
  return result(fchownat(root_fd, rel(path), caller->uid, caller->gid, AT_SYMLINK_NOFOLLOW));
}

static int pt_getattr(const char *path, struct stat *st, struct fuse_file_info *fi) {
  return result(fi ? fstat(fi->fh, st) : fstatat(root_fd, rel(path), st, AT_SYMLINK_NOFOLLOW));
}
static int pt_readlink(const char *path, char *buf, size_t size) {
  ssize_t n = readlinkat(root_fd, rel(path), buf, size - 1);
  if (n == -1) return -errno;
  buf[n] = 0;
  return 0;
}
static int pt_mknod(const char *path, mode_t mode, dev_t dev) {
  int r = result(mknodat(root_fd, rel(path), mode, dev));
  return r ? r : give(path);
}
static int pt_mkdir(const char *path, mode_t mode) {
  int r = result(mkdirat(root_fd, rel(path), mode));
  return r ? r : give(path);
}
static int pt_unlink(const char *path) { return result(unlinkat(root_fd, rel(path), 0)); }
static int pt_rmdir(const char *path) { return result(unlinkat(root_fd, rel(path), AT_REMOVEDIR)); }
static int pt_symlink(const char *target, const char *path) {
  int r = result(symlinkat(target, root_fd, rel(path)));
  return r ? r : give(path);
}
static int pt_rename(const char *from, const char *to, unsigned int flags) {
  return result(renameat2(root_fd, rel(from), root_fd, rel(to), flags));
}
static int pt_link(const char *from, const char *to) { return result(linkat(root_fd, rel(from), root_fd, rel(to), 0)); }
static int pt_chmod(const char *path, mode_t mode, struct fuse_file_info *fi) {
  return result(fi ? fchmod(fi->fh, mode) : fchmodat(root_fd, rel(path), mode, 0));
}
static int pt_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi) {
  return result(fi ? fchown(fi->fh, uid, gid) : fchownat(root_fd, rel(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}
static int pt_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi) {
  return result(fi ? futimens(fi->fh, tv) : utimensat(root_fd, rel(path), tv, AT_SYMLINK_NOFOLLOW));
}
static int pt_truncate(const char *path, off_t size, struct fuse_file_info *fi) {
  if (fi) return result(ftruncate(fi->fh, size));
  int fd = openat(root_fd, rel(path), O_WRONLY);
  if (fd == -1) return -errno;
  int r = result(ftruncate(fd, size));
  close(fd);
  return r;
}

static int opened(int fd, struct fuse_file_info *fi) {
  if (fd == -1) return -errno;
  fi->fh = fd;
  if (tuned) {
    fi->keep_cache = 1;
    fi->noflush = 1;
  }
  return 0;
}
static int pt_open(const char *path, struct fuse_file_info *fi) {
  return opened(openat(root_fd, rel(path), fi->flags & ~O_CREAT), fi);
}
static int pt_create(const char *path, mode_t mode, struct fuse_file_info *fi) {
  int r = opened(openat(root_fd, rel(path), fi->flags | O_CREAT, mode), fi);
  if (r) return r;
  struct fuse_context *caller = fuse_get_context();
  return caller->uid == 0 && caller->gid == 0 ? 0 : result(fchown(fi->fh, caller->uid, caller->gid));
}
static int pt_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi) {
  (void)path;
  ssize_t n = pread(fi->fh, buf, size, off);
  return n == -1 ? -errno : (int)n;
}
static int pt_write(const char *path, const char *buf, size_t size, off_t off, struct fuse_file_info *fi) {
  (void)path;
  ssize_t n = pwrite(fi->fh, buf, size, off);
  return n == -1 ? -errno : (int)n;
}
static int pt_release(const char *path, struct fuse_file_info *fi) {
  (void)path;
  close(fi->fh);
  return 0;
}
static int pt_fsync(const char *path, int data_only, struct fuse_file_info *fi) {
  (void)path;
  return result(data_only ? fdatasync(fi->fh) : fsync(fi->fh));
}
static int pt_fallocate(const char *path, int mode, off_t off, off_t length, struct fuse_file_info *fi) {
  (void)path;
  return result(fallocate(fi->fh, mode, off, length));
}
static off_t pt_lseek(const char *path, off_t off, int whence, struct fuse_file_info *fi) {
  (void)path;
  off_t r = lseek(fi->fh, off, whence);
  return r == -1 ? -errno : r;
}
static ssize_t pt_copy_file_range(const char *path_in, struct fuse_file_info *in, off_t off_in, const char *path_out,
                                  struct fuse_file_info *out, off_t off_out, size_t length, int flags) {
  (void)path_in, (void)path_out;
  ssize_t n = copy_file_range(in->fh, &off_in, out->fh, &off_out, length, flags);
  return n == -1 ? -errno : n;
}
static int pt_statfs(const char *path, struct statvfs *st) {
  (void)path;
  return result(fstatvfs(root_fd, st));
}

static int pt_opendir(const char *path, struct fuse_file_info *fi) {
  int fd = openat(root_fd, rel(path), O_RDONLY | O_DIRECTORY);
  DIR *dir = fd == -1 ? NULL : fdopendir(fd);
  if (!dir) return -errno;
  fi->fh = (uintptr_t)dir;
  if (tuned) fi->cache_readdir = fi->keep_cache = 1;
  return 0;
}
static int pt_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off, struct fuse_file_info *fi,
                      enum fuse_readdir_flags flags) {
  (void)path, (void)off;
  DIR *dir = (DIR *)(uintptr_t)fi->fh;
  struct dirent *entry;
  rewinddir(dir);
  while ((entry = readdir(dir))) {
    struct stat st = {.st_ino = entry->d_ino, .st_mode = entry->d_type << 12};
    enum fuse_fill_dir_flags fill_flags = 0;
    if ((flags & FUSE_READDIR_PLUS) && fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
      fill_flags = FUSE_FILL_DIR_PLUS;
    if (fill(buf, entry->d_name, &st, 0, fill_flags)) break;
  }
  return 0;
}
static int pt_releasedir(const char *path, struct fuse_file_info *fi) {
  (void)path;
  closedir((DIR *)(uintptr_t)fi->fh);
  return 0;
}
static int pt_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi) {
  (void)path, (void)data_only;
  return result(fsync(dirfd((DIR *)(uintptr_t)fi->fh)));
}

/* There is no *at() call for attributes of links; through /proc the path stays below the backing directory. */
static const char *proc_path(char *out, const char *path) {
  snprintf(out, PATH_MAX, "/proc/self/fd/%d/%s", root_fd, rel(path));
  return out;
}
static int pt_setxattr(const char *path, const char *name, const char *value, size_t size, int flags) {
  char full[PATH_MAX];
  return result(lsetxattr(proc_path(full, path), name, value, size, flags));
}
static int pt_getxattr(const char *path, const char *name, char *value, size_t size) {
  char full[PATH_MAX];
  ssize_t n = lgetxattr(proc_path(full, path), name, value, size);
  return n == -1 ? -errno : (int)n;
}
static int pt_listxattr(const char *path, char *list, size_t size) {
  char full[PATH_MAX];
  ssize_t n = llistxattr(proc_path(full, path), list, size);
  return n == -1 ? -errno : (int)n;
}
static int pt_removexattr(const char *path, const char *name) {
  char full[PATH_MAX];
  return result(lremovexattr(proc_path(full, path), name));
}

static void *pt_init(struct fuse_conn_info *conn, struct fuse_config *cfg) {
  cfg->use_ino = 1; /* git, tar and rsync compare inode numbers */
  cfg->nullpath_ok = 1;
  if (!tuned) return NULL;
  cfg->entry_timeout = cfg->attr_timeout = cfg->negative_timeout = TUNED_TIMEOUT_S;
  cfg->kernel_cache = 1;
  conn->want |= conn->capable & (FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
                                 FUSE_CAP_READDIRPLUS_AUTO);
  conn->want &= ~FUSE_CAP_AUTO_INVAL_DATA;
  return NULL;
}

int main(int argc, char **argv) {
  if (argc != 4 || (strcmp(argv[3], "default") && strcmp(argv[3], "tuned"))) {
    fprintf(stderr, "usage: passthrough BACKING MOUNTPOINT default|tuned\n");
    return 2;
  }
  tuned = !strcmp(argv[3], "tuned");
  root_fd = open(argv[1], O_PATH | O_DIRECTORY);
  if (root_fd == -1) {
    perror(argv[1]);
    return 2;
  }
  umask(0);
  struct fuse_operations ops = {
      .init = pt_init, .getattr = pt_getattr, .readlink = pt_readlink, .mknod = pt_mknod, .mkdir = pt_mkdir,
      .unlink = pt_unlink, .rmdir = pt_rmdir, .symlink = pt_symlink, .rename = pt_rename, .link = pt_link,
      .chmod = pt_chmod, .chown = pt_chown, .utimens = pt_utimens, .truncate = pt_truncate, .open = pt_open,
      .create = pt_create, .read = pt_read, .write = pt_write, .release = pt_release, .fsync = pt_fsync,
      .fallocate = pt_fallocate, .lseek = pt_lseek, .copy_file_range = pt_copy_file_range, .statfs = pt_statfs,
      .opendir = pt_opendir, .readdir = pt_readdir, .releasedir = pt_releasedir, .fsyncdir = pt_fsyncdir,
      .setxattr = pt_setxattr, .getxattr = pt_getxattr, .listxattr = pt_listxattr, .removexattr = pt_removexattr};
  /* The kernel asks for security.capability before every write unless FUSE_HANDLE_KILLPRIV_V2 is negotiated, which
   * Tidemark does and this libfuse can't; answering ENOSYS once saves the same requests. */
  if (tuned) ops.setxattr = NULL, ops.getxattr = NULL, ops.listxattr = NULL, ops.removexattr = NULL;
  const char *options = tuned ? "allow_other,default_permissions,clone_fd" : "allow_other,default_permissions";
  char *fuse_argv[] = {argv[0], "-f", "-o", (char *)options, argv[2], NULL};
  return fuse_main(5, fuse_argv, &ops, NULL);
}
