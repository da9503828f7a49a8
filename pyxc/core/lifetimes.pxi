# SPDX-License-Identifier: MIT
# How long objects live: forks, open files, and rings in which an owner finds its live objects.

# == Forks: no mapping of this module is inherited, so a child has nothing to unmap ==

cdef unsigned int forks = 0

cdef void count_fork() noexcept nogil:
    global forks
    forks += 1

if pthread_atfork(NULL, NULL, count_fork) != 0:
    raise MemoryError("pthread_atfork")


cdef inline int check_fork(unsigned int born, str what) except -1:
    """In a child, addresses and descriptors of the parent may mean something else."""
    if born != forks:
        raise RuntimeError(f"this {what} was opened before a fork; open a new one in the child")
    return 0


def fork_count():
    return forks


# == Descriptors ==

@cython.final
@cython.no_gc
cdef class _Descriptor:
    """An open file, closed with the last reference to it.

    Every call holds a reference until it ends. So its number cannot come to mean another file when another
    thread closes the handle.
    """

    cdef int number
    cdef bint owned

    def __dealloc__(self):
        # Not os.close(): at exit, objects are also collected after the modules were cleared.
        if self.owned:
            close(self.number)


cdef _Descriptor borrowed(int number):
    """A descriptor that the caller closes."""
    cdef _Descriptor descriptor = _Descriptor.__new__(_Descriptor)
    descriptor.number = number
    return descriptor


cdef _Descriptor owner_of(int number):
    cdef _Descriptor descriptor = borrowed(number)
    descriptor.owned = True
    return descriptor


# == Rings of the live objects of one owner; each leaves its ring in its __dealloc__ ==

cdef struct Link:
    Link *previous
    Link *next
    void *member

cdef void start_ring(Link *head) noexcept:
    head.previous = head
    head.next = head

cdef void join_ring(Link *head, Link *link, void *member) noexcept:
    link.member = member
    link.previous = head.previous
    link.next = head
    head.previous.next = link
    head.previous = link

cdef void leave_ring(Link *link) noexcept:
    if link.member != NULL:
        link.previous.next = link.next
        link.next.previous = link.previous
        link.member = NULL

cdef list members(Link *head):
    """Only appends: creating other objects could start a collection, which might change the ring."""
    cdef Link *link = head.next
    cdef list found = []
    while link != head:
        found.append(<object> link.member)
        link = link.next
    return found
