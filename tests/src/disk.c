/* A disk under one SQLite database, for a host that is started with this in LD_PRELOAD. It knows what a power cut would leave, and
 * fails when it is told to.
 *
 * DISK_DATABASE      path of the database; it, its -journal and its -wal are the files meant here
 * DISK_CONTROL       a folder, with
 *   durable/         what a power cut leaves: of a file what was written before its last fsync, if its folder's fsync came after
 *                    it was made
 *   synced/          the same, whether or not the folder knows of the file
 *   lying            while it is there, fsync does nothing and says that all is well
 *   fails            while it is there, every write comes to the errno in it
 * DISK_DIES_AFTER    so many writes, truncations, fsyncs and deletions of these files it does; before the next, the process is killed
 *
 * Nothing really waits for the disk below: what counts is in durable/. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { FILES = 3, FOLDER = FILES, OTHER };

struct range {
    off_t from, to;
};

static struct file {
    char live[PATH_MAX], synced[PATH_MAX], durable[PATH_MAX];
    /* Written since the last fsync. */
    struct range *dirty;
    size_t count, room;
} files[FILES];

static char folder[PATH_MAX], lying[PATH_MAX], fails[PATH_MAX];
static long dies_after = LONG_MAX;
static int on;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void die(const char *what, const char *path) {
    dprintf(2, "the tests' disk cannot %s %s: %s\n", what, path, strerror(errno));
    abort();
}

static void name(char *path, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, PATH_MAX, format, arguments);
    va_end(arguments);
    if (length >= PATH_MAX) die("name", path);
}

static int exists(const char *path) { return access(path, F_OK) == 0; }

static int file_at(const char *path) {
    for (int i = 0; i < FILES; i++)
        if (strcmp(path, files[i].live) == 0) return i;
    return OTHER;
}

static int file_of(int fd) {
    char link[64], path[PATH_MAX];
    if (!on) return OTHER;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return OTHER;
    path[length] = 0;
    return strcmp(path, folder) == 0 ? FOLDER : file_at(path);
}

static void soil(struct file *file, off_t from, off_t to) {
    if (to <= from) return;
    if (file->count == file->room) {
        file->room = file->room * 2 + 64;
        file->dirty = realloc(file->dirty, file->room * sizeof *file->dirty);
        if (!file->dirty) die("remember", file->live);
    }
    file->dirty[file->count++] = (struct range){from, to};
}

/* What of the range is there in `from`. */
static void copy(int from, int to, struct range range, const char *path) {
    static char bytes[1 << 16];
    while (range.from < range.to) {
        size_t wanted = range.to - range.from;
        ssize_t length = pread(from, bytes, wanted < sizeof bytes ? wanted : sizeof bytes, range.from);
        if (length < 0) die("read", path);
        if (length == 0) return;
        if (syscall(SYS_pwrite64, to, bytes, length, range.from) != length) die("copy", path);
        range.from += length;
    }
}

static void sync_file(struct file *file, int fd) {
    struct stat now;
    int synced = open(file->synced, O_CREAT | O_WRONLY, 0600);
    if (synced < 0 || fstat(fd, &now) != 0) die("sync", file->synced);
    for (size_t i = 0; i < file->count; i++) copy(fd, synced, file->dirty[i], file->live);
    if (syscall(SYS_ftruncate, synced, now.st_size) != 0) die("truncate", file->synced);
    close(synced);
    file->count = 0;
}

static void sync_folder(void) {
    for (int i = 0; i < FILES; i++) {
        struct file *file = &files[i];
        if (!exists(file->live)) {
            unlinkat(AT_FDCWD, file->durable, 0);
            continue;
        }
        close(open(file->synced, O_CREAT | O_WRONLY, 0600));
        /* One moment between the old one and the new one: this process may be killed at any. */
        char made[PATH_MAX];
        name(made, "%s.new", file->synced);
        unlinkat(AT_FDCWD, made, 0);
        if (link(file->synced, made) != 0 || rename(made, file->durable) != 0) die("link", file->durable);
        unlinkat(AT_FDCWD, made, 0);
    }
}

__attribute__((constructor)) static void begin(void) {
    const char *database = getenv("DISK_DATABASE"), *control = getenv("DISK_CONTROL"), *dies = getenv("DISK_DIES_AFTER");
    if (!database || !control) return;
    static const char *const endings[FILES] = {"", "-journal", "-wal"};
    for (int i = 0; i < FILES; i++) {
        name(files[i].live, "%s%s", database, endings[i]);
        name(files[i].synced, "%s/synced/file%s", control, endings[i]);
        name(files[i].durable, "%s/durable/file%s", control, endings[i]);
    }
    name(folder, "%s", database);
    *strrchr(folder, '/') = 0;
    name(lying, "%s/lying", control);
    name(fails, "%s/fails", control);
    if (dies) dies_after = atol(dies);
    char path[PATH_MAX];
    name(path, "%s/durable", control);
    mkdir(path, 0700);
    name(path, "%s/synced", control);
    int first = mkdir(path, 0700) == 0;
    for (int i = 0; i < FILES; i++) {
        int live = open(files[i].live, O_RDONLY);
        if (live < 0) continue;
        /* What a process before this one wrote and did not sync is somewhere in it. */
        struct stat now;
        if (fstat(live, &now) != 0) die("read", files[i].live);
        soil(&files[i], 0, now.st_size);
        /* What was there before there was this disk is durable. */
        if (first) sync_file(&files[i], live);
        close(live);
    }
    if (first) sync_folder();
    on = 1;
}

/* Begins to do something to a file, or to the folder; 0, or why not. */
static int enter(int writes) {
    pthread_mutex_lock(&lock);
    if (dies_after-- <= 0) raise(SIGKILL);
    int reason = 0, file = writes ? open(fails, O_RDONLY) : -1;
    if (file >= 0) {
        char digits[16] = {0};
        if (read(file, digits, sizeof digits - 1) > 0) reason = atoi(digits);
        close(file);
    }
    return reason;
}

static int leave(int result, int reason) {
    pthread_mutex_unlock(&lock);
    if (reason) errno = reason;
    return reason ? -1 : result;
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    int i = file_of(fd);
    if (i >= FILES) return syscall(SYS_pwrite64, fd, bytes, length, at);
    int reason = enter(1);
    ssize_t written = -1;
    if (!reason) {
        written = syscall(SYS_pwrite64, fd, bytes, length, at);
        if (written < 0) reason = errno;
        else soil(&files[i], at, at + written);
    }
    return leave(written, reason);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) { return pwrite64(fd, bytes, length, at); }

int ftruncate64(int fd, off64_t length) {
    int i = file_of(fd);
    if (i >= FILES) return syscall(SYS_ftruncate, fd, length);
    int reason = enter(1);
    if (!reason) {
        struct stat before;
        if (fstat(fd, &before) != 0 || syscall(SYS_ftruncate, fd, length) != 0) reason = errno;
        /* What comes after it again, should it grow, are zeros. */
        else soil(&files[i], length, before.st_size);
    }
    return leave(0, reason);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
    int i = file_of(fd);
    if (i == OTHER) return syscall(SYS_fsync, fd);
    int reason = enter(0);
    if (!exists(lying)) {
        if (i == FOLDER) sync_folder();
        else sync_file(&files[i], fd);
    }
    return leave(0, reason);
}

int fdatasync(int fd) { return file_of(fd) == OTHER ? (int)syscall(SYS_fdatasync, fd) : fsync(fd); }

int unlink(const char *path) {
    int i = on ? file_at(path) : OTHER;
    if (i == OTHER) return unlinkat(AT_FDCWD, path, 0);
    int reason = enter(0);
    if (unlinkat(AT_FDCWD, path, 0) != 0) {
        reason = errno;
    } else {
        /* Whatever has this name from now on is another file. */
        unlinkat(AT_FDCWD, files[i].synced, 0);
        files[i].count = 0;
    }
    return leave(0, reason);
}
