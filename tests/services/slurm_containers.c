/* A SPANK plugin with the options of Pyxis that SlurmExecutor uses, for a cluster of tests.
 *
 * An image is a folder with a root file system: an absolute path, or a name below the folder images=... of plugstack.conf.
 * Every task gets a copy-on-write view of it, with the mounts that were asked for. As Pyxis does, it takes over the
 * variables of the image (etc/environment) into the task's environment, but for those that --container-env names.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <limits.h>
#include <sched.h>
#include <slurm/spank.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <unistd.h>

SPANK_PLUGIN(pyxis, 1)

#define STAGE "/run/nemo-run-test-container"
#define ROOT STAGE "/root"

enum { IMAGE, MOUNTS, WORKDIR, ENVIRONMENT, HOME, NO_HOME, COUNT };
static char *given[COUNT];

static int take(int which, const char *value, int remote) {
  (void)remote;
  given[which] = strdup(value ? value : "");
  return 0;
}

static struct spank_option options[COUNT] = {
    {"container-image", "IMAGE", "root file system of the task", 1, IMAGE, take},
    {"container-mounts", "SRC:DST[:ro],...", "what is mounted in it", 1, MOUNTS, take},
    {"container-workdir", "PATH", "working directory in it", 1, WORKDIR, take},
    {"container-env", "NAME,...", "variables that those of the image do not replace", 1, ENVIRONMENT, take},
    {"container-mount-home", NULL, "accepted", 0, HOME, take},
    {"no-container-mount-home", NULL, "accepted: that is so", 0, NO_HOME, take},
};

int slurm_spank_init(spank_t spank, int count, char **arguments) {
  (void)count, (void)arguments;
  for (int i = 0; i < COUNT; i++)
    if (spank_option_register(spank, &options[i]) != ESPANK_SUCCESS) return -1;
  return 0;
}

static int fail(const char *what) {
  slurm_error("pyxis: %s: %s", what, strerror(errno));
  return -1;
}

/* Make a folder and those above it. */
static int folder(const char *path) {
  char part[PATH_MAX];
  for (size_t i = 1; i <= strlen(path); i++)
    if (path[i] == '/' || !path[i]) {
      snprintf(part, sizeof part, "%.*s", (int)i, path);
      if (mkdir(part, 0755) && errno != EEXIST) return fail(part);
    }
  return 0;
}

/* Show a file or a folder of the node in the container. */
static int show(const char *source, const char *target, int read_only) {
  char inside[PATH_MAX];
  struct stat status;
  if (*target != '/') return errno = EINVAL, fail(target);
  if (stat(source, &status)) return fail(source);
  snprintf(inside, sizeof inside, ROOT "%s", target);
  if (S_ISDIR(status.st_mode)) {
    if (folder(inside)) return -1;
  } else {
    char *name = strrchr(inside, '/');
    *name = 0;
    if (folder(inside)) return -1;
    *name = '/';
    int file = open(inside, O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) return fail(inside);
    close(file);
  }
  if (mount(source, inside, NULL, MS_BIND | MS_REC, NULL)) return fail(source);
  return read_only && mount(NULL, inside, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) ? fail(source) : 0;
}

static int show_all(char *mounts) {
  char *next;
  for (char *one = strtok_r(mounts, ",", &next); one; one = strtok_r(NULL, ",", &next)) {
    char *target = strchr(one, ':'), *flags = target ? strchr(target + 1, ':') : NULL;
    if (target) *target++ = 0;
    if (flags) *flags++ = 0;
    if (show(one, target ? target : one, flags && !strcmp(flags, "ro"))) return -1;
  }
  return 0;
}

/* As root: the container's file system, in a mount namespace of the task's own. */
int slurm_spank_task_init_privileged(spank_t spank, int count, char **arguments) {
  (void)spank;
  char image[PATH_MAX], layers[3 * PATH_MAX];
  if (!given[IMAGE]) return 0;
  const char *images = count && !strncmp(arguments[0], "images=", 7) ? arguments[0] + 7 : "";
  snprintf(image, sizeof image, "%s%s%s", *given[IMAGE] == '/' ? "" : images, *given[IMAGE] == '/' ? "" : "/", given[IMAGE]);
  if (access(image, F_OK)) return fail(image);
  mode_t mask = umask(022);
  if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL)) return fail("namespace");
  if (folder(STAGE) || mount("tmpfs", STAGE, "tmpfs", 0, "mode=755")) return fail(STAGE);
  if (folder(STAGE "/upper") || folder(STAGE "/work") || folder(ROOT)) return -1;
  snprintf(layers, sizeof layers, "lowerdir=%s,upperdir=" STAGE "/upper,workdir=" STAGE "/work", image);
  if (mount("overlay", ROOT, "overlay", 0, layers)) return fail(image);
  if (show("/proc", "/proc", 0) || show("/dev", "/dev", 0) || show("/sys", "/sys", 0)) return -1;
  if (show("/etc/passwd", "/etc/passwd", 1) || show("/etc/hosts", "/etc/hosts", 1)) return -1;
  if (folder(ROOT "/tmp") || chmod(ROOT "/tmp", 01777)) return fail("/tmp");
  if (given[MOUNTS] && show_all(given[MOUNTS])) return -1;
  umask(mask);
  /* What is left to do as the user, in Slurm's order of things, needs a capability of root's. */
  return prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP) ? fail("securebits") : 0;
}

static int is_kept(const char *name) {
  char wanted[PATH_MAX], all[1 << 16];
  snprintf(all, sizeof all, ",%s,", given[ENVIRONMENT] ? given[ENVIRONMENT] : "");
  snprintf(wanted, sizeof wanted, ",%s,", name);
  return strstr(all, wanted) != NULL;
}

/* As the user, right before the task: enter, and take over the variables of the image. */
int slurm_spank_task_init(spank_t spank, int count, char **arguments) {
  (void)count, (void)arguments;
  struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  struct __user_cap_data_struct none[2] = {{0}};
  char line[4096];
  if (!given[IMAGE]) return 0;
  if (chroot(ROOT) || chdir(given[WORKDIR] ? given[WORKDIR] : "/")) return fail(given[WORKDIR] ? given[WORKDIR] : "/");
  if (getuid() && (prctl(PR_SET_SECUREBITS, 0) || syscall(SYS_capset, &header, none))) return fail("capabilities");
  FILE *file = fopen("/etc/environment", "r");
  while (file && fgets(line, sizeof line, file)) {
    char *value = strchr(line, '=');
    if (!value) continue;
    *value++ = 0;
    value[strcspn(value, "\n")] = 0;
    if (!is_kept(line)) spank_setenv(spank, line, value, 1);
  }
  if (file) fclose(file);
  return 0;
}
