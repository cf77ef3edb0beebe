/* SPDX-License-Identifier: GPL-2.0-only */
/* The symbolic name of an errno; glibc has strerrorname_np() only from 2.32. */
#ifndef ERRNAME_H
#define ERRNAME_H

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

static inline const char *errname(int err)
{
	/* clang-format off */
	static const char * const names[] = {
#define NAME(e) [e] = #e
		NAME(EPERM), NAME(ENOENT), NAME(ESRCH), NAME(EINTR), NAME(EIO),
		NAME(ENXIO), NAME(E2BIG), NAME(ENOEXEC), NAME(EBADF),
		NAME(ECHILD), NAME(EAGAIN), NAME(ENOMEM), NAME(EACCES),
		NAME(EFAULT), NAME(ENOTBLK), NAME(EBUSY), NAME(EEXIST),
		NAME(EXDEV), NAME(ENODEV), NAME(ENOTDIR), NAME(EISDIR),
		NAME(EINVAL), NAME(ENFILE), NAME(EMFILE), NAME(ENOTTY),
		NAME(ETXTBSY), NAME(EFBIG), NAME(ENOSPC), NAME(ESPIPE),
		NAME(EROFS), NAME(EMLINK), NAME(EPIPE), NAME(EDOM),
		NAME(ERANGE), NAME(EDEADLK), NAME(ENAMETOOLONG), NAME(ENOSYS),
		NAME(EOVERFLOW), NAME(EMSGSIZE), NAME(EOPNOTSUPP),
		NAME(EADDRINUSE), NAME(ETIMEDOUT), NAME(ECONNREFUSED),
		NAME(ESTALE), NAME(EHWPOISON), NAME(EBADMSG),
#undef NAME
	};
	/* clang-format on */
	static char number[16];

	if (err >= 0 && (size_t)err < sizeof(names) / sizeof(*names) &&
	    names[err])
		return names[err];
	snprintf(number, sizeof(number), "E%d", err);
	return number;
}

#endif
