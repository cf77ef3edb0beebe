// SPDX-License-Identifier: GPL-2.0-only
/*
 * as - run a command as somebody who may less than root, or sees less
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char usage[] =
	"usage: as [OPTION]... COMMAND...   options are obeyed one after the other\n"
	"  -c CAP   without a capability, by number\n"
	"  -u UID   as that user, and the group of that number\n"
	"  -U       as root of a new user namespace, in which there is nobody else\n"
	"  -P       as the first process of a new pid namespace\n";

static void die(const char *what)
{
	fprintf(stderr, "as: ");
	perror(what);
	exit(126);
}

static void put(const char *name, const char *format, unsigned int id)
{
	char text[64];
	int fd = open(name, O_WRONLY | O_CLOEXEC), n;

	n = snprintf(text, sizeof(text), format, id);
	if (fd < 0 || write(fd, text, n) != n)
		die(name);
	close(fd);
}

static void be_user(unsigned int id)
{
	if (setgroups(0, NULL) || setresgid(id, id, id) ||
	    setresuid(id, id, id))
		die("setresuid");
	/* or /proc/self would be root's */
	prctl(PR_SET_DUMPABLE, 1);
}

static void be_root_of_users(void)
{
	const unsigned int uid = geteuid(), gid = getegid();

	if (unshare(CLONE_NEWUSER))
		die("CLONE_NEWUSER");
	put("/proc/self/setgroups", "deny", 0);
	put("/proc/self/uid_map", "0 %u 1", uid);
	put("/proc/self/gid_map", "0 %u 1", gid);
}

/* What the command ends with is what this ends with. */
static void be_first_process(void)
{
	int status;
	pid_t pid;

	if (unshare(CLONE_NEWPID))
		die("CLONE_NEWPID");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (!pid)
		return;
	if (waitpid(pid, &status, 0) != pid)
		die("waitpid");
	exit(WIFEXITED(status) ? WEXITSTATUS(status) : 125);
}

int main(int argc, char *argv[])
{
	int option;

	/* + ends options with the command */
	while ((option = getopt(argc, argv, "+c:u:UP")) != -1) {
		if (option == 'u')
			be_user(atoi(optarg));
		else if (option == 'U')
			be_root_of_users();
		else if (option == 'P')
			be_first_process();
		else if (option != 'c')
			break;
		else if (prctl(PR_CAPBSET_DROP, atoi(optarg)))
			die("PR_CAPBSET_DROP");
	}
	if (option != -1 || optind == argc) {
		fputs(usage, stderr);
		return 126;
	}
	execvp(argv[optind], argv + optind);
	die(argv[optind]);
}
