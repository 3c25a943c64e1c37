/*
 * The system-call rows of `npm run bench`, in C so that the generator is never what is measured: about 40 ns of clock
 * per operation. Prints one line of JSON: {"ops","seconds","bytes","p50Us","p99Us","maxUs"}; exit status 1 and a message
 * on standard error when any call fails.
 *
 *   workload COMMAND dir=D [count=N] [perdir=N] [size=BYTES] [block=BYTES] [fsync=0|1] [minms=N] [seed=N]
 *
 *   create    count new files of size bytes in dir, perdir in a folder; with fsync=1 each is synced before its close
 *   stat, openread   every file of such a tree in turn, repeated until minms have passed; openread reads block bytes
 *   rename    every file to a new name in its folder and back
 *   walk      reads every folder and stats every name below dir
 *   seqwrite, seqread   dir/big, size bytes in blocks; seqwrite ends with an fsync; seqread repeats until minms
 *   randwrite count writes of block bytes at random aligned offsets of dir/big (size bytes); fsync=1 after each, else
 *             once at the end
 *   churn     count changes over a tree made by create (perdir, files=N), which looks the same afterwards
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *dir = "";
static long count = 1000, perdir = 100, files = 1000, minms = 0, with_fsync = 0;
static size_t size = 4096, block = 4096;
static uint64_t seed = 1;
static char *buffer; /* incompressible, so that no target gains by compressing */

static void check(int ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "workload: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t next_random(void) { /* xorshift64 */
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return seed;
}

/* Latencies in a log-linear histogram: 64 steps per power of two, so a quantile is right within 1.6 %. */
enum { STEPS = 64, BUCKETS = 64 * STEPS };
static uint64_t histogram[BUCKETS], ops, bytes, slowest_ns, started_ns, last_ns;

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}
static int bucket_of(uint64_t ns) {
  if (ns < STEPS) return ns;
  int shift = 63 - __builtin_clzll(ns) - 6;
  return (shift + 1) * STEPS + (ns >> shift) - STEPS;
}
static double bucket_ns(int bucket) {
  if (bucket < STEPS) return bucket;
  int shift = bucket / STEPS - 1;
  return (double)((uint64_t)(bucket % STEPS + STEPS) << shift);
}
static void begin(void) { started_ns = last_ns = now_ns(); }
/* Ends one operation; the next one begins at the same instant, so one clock reading per operation is enough. */
static void lap(void) {
  uint64_t now = now_ns(), took = now - last_ns;
  histogram[bucket_of(took)]++;
  if (took > slowest_ns) slowest_ns = took;
  ops++;
  last_ns = now;
}
static double quantile_us(double q) {
  uint64_t seen = 0, wanted = (uint64_t)(q * ops);
  for (int i = 0; i < BUCKETS; i++)
    if ((seen += histogram[i]) > wanted) return bucket_ns(i) / 1000;
  return slowest_ns / 1000.0;
}
static void report(void) {
  double seconds = (now_ns() - started_ns) / 1e9;
  printf("{\"ops\":%llu,\"seconds\":%.9f,\"bytes\":%llu,\"p50Us\":%.3f,\"p99Us\":%.3f,\"maxUs\":%.3f}\n",
         (unsigned long long)ops, seconds, (unsigned long long)bytes, quantile_us(0.5), quantile_us(0.99),
         slowest_ns / 1000.0);
}
static int time_left(void) { return now_ns() - started_ns < (uint64_t)minms * 1000000; }

/* Names are made before the clock starts, and are relative, so that the way to dir is not part of the row. */
static char (*names_of(const char *prefix))[40] {
  char(*names)[40] = calloc(count, sizeof *names);
  check(names != NULL, "calloc");
  for (long i = 0; i < count; i++) snprintf(names[i], sizeof *names, "d%05ld/%s%07ld", i / perdir, prefix, i);
  return names;
}
static void write_all(int fd, size_t length, const char *what) {
  for (size_t done = 0; done < length;) {
    ssize_t n = write(fd, buffer + done, length - done);
    check(n > 0, what);
    done += n;
  }
  bytes += length;
}

static void create_files(void) {
  char folder[40], (*names)[40] = names_of("f");
  for (long i = 0; i < count; i += perdir) {
    snprintf(folder, sizeof folder, "d%05ld", i / perdir);
    check(mkdir(folder, 0755) == 0 || errno == EEXIST, folder);
  }
  begin();
  for (long i = 0; i < count; i++, lap()) {
    int fd = open(names[i], O_WRONLY | O_CREAT | O_EXCL, 0644);
    check(fd != -1, names[i]);
    if (size) write_all(fd, size, names[i]);
    if (with_fsync) check(fsync(fd) == 0, "fsync");
    check(close(fd) == 0, "close");
  }
}
static void stat_files(void) {
  char(*names)[40] = names_of("f");
  struct stat st;
  begin();
  do
    for (long i = 0; i < count; i++, lap()) check(lstat(names[i], &st) == 0, names[i]);
  while (time_left());
}
static void openread_files(void) {
  char(*names)[40] = names_of("f");
  begin();
  do
    for (long i = 0; i < count; i++, lap()) {
      int fd = open(names[i], O_RDONLY);
      check(fd != -1, names[i]);
      ssize_t n = read(fd, buffer, block);
      check(n == (ssize_t)block, names[i]);
      bytes += n;
      close(fd);
    }
  while (time_left());
}
static void rename_files(void) {
  char(*from)[40] = names_of("f"), (*to)[40] = names_of("renamed");
  begin();
  for (long i = 0; i < count; i++, lap()) check(rename(from[i], to[i]) == 0, from[i]);
  for (long i = 0; i < count; i++, lap()) check(rename(to[i], from[i]) == 0, to[i]);
}

static void walk_below(int parent, const char *name) {
  int fd = openat(parent, name, O_RDONLY | O_DIRECTORY);
  check(fd != -1, name);
  DIR *stream = fdopendir(fd);
  check(stream != NULL, name);
  struct dirent *entry;
  while ((entry = readdir(stream))) {
    if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
    struct stat st;
    check(fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0, entry->d_name);
    lap();
    if (S_ISDIR(st.st_mode)) walk_below(fd, entry->d_name);
  }
  closedir(stream);
}

static void write_big(void) {
  int fd = open("big", O_WRONLY | O_CREAT | O_TRUNC, 0644);
  check(fd != -1, "big");
  begin();
  for (size_t done = 0; done < size; done += block, lap()) {
    memcpy(buffer, &done, sizeof done); /* no two blocks are equal */
    write_all(fd, block, "write");
  }
  check(fsync(fd) == 0, "fsync");
  check(close(fd) == 0, "close");
}
static void read_big(void) {
  begin();
  do { /* opened anew for each pass, as programs do: what open() does to the cache is part of a warm read */
    int fd = open("big", O_RDONLY);
    check(fd != -1, "big");
    for (ssize_t n; (n = read(fd, buffer, block)); bytes += n, lap()) check(n > 0, "read");
    close(fd);
  } while (time_left());
}
static void write_random(void) {
  int fd = open("big", O_WRONLY);
  check(fd != -1, "big");
  begin();
  for (long i = 0; i < count; i++, lap()) {
    off_t offset = next_random() % (size / block) * block;
    check(pwrite(fd, buffer, block, offset) == (ssize_t)block, "pwrite");
    bytes += block;
    if (with_fsync) check(fsync(fd) == 0, "fsync");
  }
  check(fsync(fd) == 0, "fsync");
  check(close(fd) == 0, "close");
}

static void put(const char *name, int flags, size_t length, off_t offset) {
  int fd = open(name, O_WRONLY | flags, 0644);
  check(fd != -1, name);
  check(pwrite(fd, buffer, length, offset) == (ssize_t)length, name);
  check(close(fd) == 0, name);
}
/* One step of churn; returns how many changes it made. Each kind leaves names, sizes and kinds as they were. */
static int churn_step(long step) {
  char name[40], other[40];
  long i = next_random() % files;
  snprintf(name, sizeof name, "d%05ld/f%07ld", i / perdir, i);
  snprintf(other, sizeof other, "d%05ld/tmp%ld", i / perdir, step);
  switch (next_random() % 10) {
    case 0: case 1: case 2: case 3: /* overwritten in place */
      put(name, 0, 512, next_random() % (size - 512));
      return 1;
    case 4:
      check(chmod(name, 0600 + next_random() % 64) == 0, name);
      return 1;
    case 5:
      check(utimensat(AT_FDCWD, name, NULL, 0) == 0, name);
      return 1;
    case 6: /* a name that lives for a moment */
      put(other, O_CREAT | O_EXCL, 100, 0);
      check(unlink(other) == 0, other);
      return 3;
    case 7:
      check(rename(name, other) == 0 && rename(other, name) == 0, name);
      return 2;
    case 8: /* the way editors save */
      put(other, O_CREAT | O_EXCL, size, 0);
      check(rename(other, name) == 0, name);
      return 3;
    default:
      check(symlink(name, other) == 0 && unlink(other) == 0, other);
      return 2;
  }
}
static void churn(void) {
  begin();
  for (long done = 0, step = 0; done < count; step++, lap()) done += churn_step(step);
}

static void parse(char *argument) {
  char *value = strchr(argument, '=');
  check(value != NULL, argument);
  *value++ = 0;
  if (!strcmp(argument, "dir")) dir = value;
  else if (!strcmp(argument, "count")) count = atol(value);
  else if (!strcmp(argument, "perdir")) perdir = atol(value);
  else if (!strcmp(argument, "files")) files = atol(value);
  else if (!strcmp(argument, "size")) size = atol(value);
  else if (!strcmp(argument, "block")) block = atol(value);
  else if (!strcmp(argument, "fsync")) with_fsync = atol(value);
  else if (!strcmp(argument, "minms")) minms = atol(value);
  else if (!strcmp(argument, "seed")) seed = (atol(value) + 1) * 0x9E3779B97F4A7C15ull; /* small seeds start alike */
  else errno = EINVAL, check(0, argument);
}

int main(int argc, char **argv) {
  static const struct { const char *name; void (*run)(void); } commands[] = {
      {"create", create_files}, {"stat", stat_files}, {"openread", openread_files}, {"rename", rename_files},
      {"seqwrite", write_big}, {"seqread", read_big}, {"randwrite", write_random}, {"churn", churn}};
  for (int i = 2; i < argc; i++) parse(argv[i]);
  if (argc < 3) errno = EINVAL, check(0, "usage: workload COMMAND dir=D ...");
  check(chdir(dir) == 0, dir);
  size_t room = size > block ? size : block;
  if (room > 1 << 20) room = 1 << 20; /* files larger than that are written in blocks */
  if (room < block) room = block;
  check((buffer = aligned_alloc(4096, (room + 4095) & ~4095ul)) != NULL, "aligned_alloc");
  for (size_t i = 0; i + 8 <= room; i += 8) *(uint64_t *)(buffer + i) = next_random();
  if (!strcmp(argv[1], "walk")) return begin(), walk_below(AT_FDCWD, "."), report(), 0;
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
    if (!strcmp(argv[1], commands[i].name)) return commands[i].run(), report(), 0;
  errno = EINVAL, check(0, argv[1]);
}
