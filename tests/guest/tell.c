// SPDX-License-Identifier: GPL-2.0-only
/*
 * tell - give an actor a command and show its reply
 *
 * Without arguments it reads lines "NAME COMMAND..." and prints "NAME REPLY"
 * for each: on an emulated machine one exec costs more than many commands.  A
 * person at a terminal is told the usage instead of being waited for.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "errname.h"

enum { OK, ERROR, NO_REPLY };

static char reply[256 * 1024];
static int timeout_seconds = 10;

static socklen_t actor_address(struct sockaddr_un *sun, const char *name)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path + 1, sizeof(sun->sun_path) - 1, "actor.%s",
		 name);
	return offsetof(struct sockaddr_un, sun_path) + 1 +
	       strlen(sun->sun_path + 1);
}

/* Autobind (an address of the family alone) gives actors a place to reply to. */
static int open_socket(void)
{
	struct sockaddr_un any = { .sun_family = AF_UNIX };
	struct timeval timeout = { .tv_sec = timeout_seconds };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (void *)&any, sizeof(any.sun_family)) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
		       sizeof(timeout))) {
		perror("tell");
		exit(NO_REPLY);
	}
	return fd;
}

/* Leaves the reply, or what went wrong, in reply[]. */
static int tell(int fd, const char *name, const char *command)
{
	struct sockaddr_un sun;
	socklen_t len = actor_address(&sun, name);
	ssize_t n;

	if (sendto(fd, command, strlen(command), 0, (void *)&sun, len) < 0) {
		snprintf(reply, sizeof(reply), "error %s no such actor",
			 errname(errno));
		return NO_REPLY;
	}
	n = recv(fd, reply, sizeof(reply) - 1, 0);
	if (n < 0) {
		snprintf(reply, sizeof(reply),
			 "error ETIMEDOUT no reply within %d s",
			 timeout_seconds);
		return NO_REPLY;
	}
	reply[n] = '\0';
	return strncmp(reply, "ok", 2) ? ERROR : OK;
}

/*
 * A late reply must not be taken for that of the next command, so every line
 * after a timeout gets a new address to reply to.
 */
static int tell_lines(void)
{
	int fd = open_socket(), worst = OK, status;
	char *line = NULL, *command;
	size_t size = 0;

	while (getline(&line, &size, stdin) > 0) {
		line[strcspn(line, "\n")] = '\0';
		command = strchrnul(line, ' ');
		if (*command)
			*command++ = '\0';
		status = tell(fd, line, command);
		printf("%s %s\n", line, reply);
		if (status > worst)
			worst = status;
		if (status == NO_REPLY) {
			close(fd);
			fd = open_socket();
		}
	}
	free(line);
	return fflush(stdout) ? NO_REPLY : worst;
}

static int tell_words(char *argv[])
{
	char command[4096] = "";
	int status;

	for (char **word = argv + 1; *word; word++) {
		if (strlen(command) + strlen(*word) + 2 > sizeof(command)) {
			fputs("tell: too many words\n", stderr);
			return NO_REPLY;
		}
		if (*command)
			strcat(command, " ");
		strcat(command, *word);
	}
	status = tell(open_socket(), argv[0], command);
	fprintf(status == OK ? stdout : stderr, "%s\n", reply);
	return status;
}

int main(int argc, char *argv[])
{
	int opt;

	while ((opt = getopt(argc, argv, "+t:")) == 't')
		timeout_seconds = atoi(optarg);
	argc -= optind;
	argv += optind;
	if (opt == -1 && argc == 0 && !isatty(STDIN_FILENO))
		return tell_lines();
	if (opt == -1 && argc > 1)
		return tell_words(argv);
	fputs("usage: tell [-t SECONDS] NAME COMMAND...\n"
	      "       tell [-t SECONDS] <LINES   one \"NAME COMMAND...\" each\n",
	      stderr);
	return NO_REPLY;
}
