/* SPDX-License-Identifier: MIT
 *
 * A small 32-bit PV guest (PAE). Its command line is its program, a letter for each step:
 *   p  print a line on the console          m  publish the p2m as a linear list
 *   y  yield the processor once             f  publish the p2m as a list of lists of frames
 *   w  spin for ever, counting in memory    b  block for ever
 *   s  suspend                              q  power off
 *   c  crash
 * Other letters do nothing; the end of the program powers off.
 *
 * What a test can rely on: while it spins or blocks, esi, edi and ebp hold the MAGIC values below; the page
 * at pfn 1 holds the quadwords MAGIC_WORD + 0, 1, ... 511; the first word at pfn 2 grows while it spins.
 * The numbers are those of Xen's public headers (xen.h, sched.h, event_channel.h, arch-x86/xen.h, io/console.h).
 */
#define VIRT_BASE       0xc0000000
#define HYPERCALL       0x82                    /* the trap by which a 32-bit guest calls Xen */

#define MAGIC_ESI       0x70796573              /* "pyes" */
#define MAGIC_EDI       0x70796564
#define MAGIC_EBP       0x70796562
#define MAGIC_WORD      0x7079786300000000

#define UPDATE_VA_MAPPING 14
#define SCHED_OP        29
#define EVENT_CHANNEL_OP 32
#define SCHEDOP_YIELD   0
#define SCHEDOP_SHUTDOWN 2
#define SCHEDOP_POLL    3
#define EVTCHNOP_SEND   4
#define SHUTDOWN_POWEROFF 0
#define SHUTDOWN_SUSPEND 2
#define SHUTDOWN_CRASH  3
#define UVMF_INVLPG     2
#define PAGE_RW         3

/* start_info */
#define NR_PAGES        32
#define SHARED_INFO     36
#define STORE_MFN       44
#define CONSOLE_MFN     52
#define CONSOLE_EVTCHN  56
#define PT_BASE         60
#define MFN_LIST        68
#define CMD_LINE        80
/* shared_info */
#define MAX_PFN         2316
#define FRAME_LIST_LIST 2320
#define P2M_CR3         2328
#define P2M_VADDR       2332
#define RING_OUT        1024
#define RING_OUT_MASK   2047
#define RING_OUT_PROD   3084

        .section .note.Xen, "a", @note
        .macro NOTE type:req, value:vararg
        .balign 4
        .long 4, 2f - 1f, \type
        .asciz "Xen"
1:      \value
2:      .balign 4
        .endm
        NOTE 6, .asciz "pyxc-pv32"      /* GUEST_OS */
        NOTE 8, .asciz "generic"        /* LOADER */
        NOTE 5, .asciz "xen-3.0"        /* XEN_VERSION */
        NOTE 9, .asciz "yes"            /* PAE_MODE */
        NOTE 3, .long VIRT_BASE         /* VIRT_BASE */
        NOTE 4, .long 0                 /* PADDR_OFFSET */
        NOTE 1, .long _start            /* ENTRY */

        .text
        .code32
        .globl  _start
_start: cld
        mov     $stack_end, %esp
        mov     %esi, info
        lea     CMD_LINE(%esi), %eax
        mov     %eax, program

step:   mov     program, %esi
        incl    program
        movzbl  (%esi), %eax
        test    %al, %al
        jz      poweroff
        mov     $actions, %esi
1:      cmpl    $0, (%esi)
        je      step
        cmp     %eax, (%esi)
        je      2f
        add     $8, %esi
        jmp     1b
2:      call    *4(%esi)
        jmp     step

poweroff:
        movl    $SHUTDOWN_POWEROFF, argument
        jmp     shutdown
crash:  movl    $SHUTDOWN_CRASH, argument
shutdown:
        mov     $SCHEDOP_SHUTDOWN, %ebx
        call    sched_op_argument
1:      jmp     1b

spin:   call    set_magic
1:      incl    heartbeat
        jmp     1b

block:  call    set_magic
1:      mov     $SCHEDOP_POLL, %ebx
        mov     $poll, %ecx
        mov     $SCHED_OP, %eax
        int     $HYPERCALL
        jmp     1b

set_magic:
        mov     $MAGIC_ESI, %esi
        mov     $MAGIC_EDI, %edi
        mov     $MAGIC_EBP, %ebp
        ret

yield:  mov     $SCHEDOP_YIELD, %ebx
sched_op_argument:
        mov     $argument, %ecx
        mov     $SCHED_OP, %eax
        int     $HYPERCALL
        ret

/* The frames in start_info become pfns, and its own frame is passed on: who resumes the guest makes mfns of them
 * again, or returns 1, and it is left to the guest. */
suspend:
        mov     info, %esi
        lea     STORE_MFN(%esi), %edi
        call    mfn_to_pfn
        lea     CONSOLE_MFN(%esi), %edi
        call    mfn_to_pfn
        mov     %esi, %eax
        call    mfn_of
        mov     %eax, %edx
        movl    $SHUTDOWN_SUSPEND, argument
        mov     $SCHEDOP_SHUTDOWN, %ebx
        call    sched_op_argument
        test    %eax, %eax
        jz      1f
        lea     STORE_MFN(%esi), %edi
        call    pfn_to_mfn
        lea     CONSOLE_MFN(%esi), %edi
        call    pfn_to_mfn
1:      ret

mfn_to_pfn:
        mov     (%edi), %eax
        call    pfn_of
        mov     %ecx, (%edi)
        ret
pfn_to_mfn:
        mov     (%edi), %ecx
        mov     MFN_LIST(%esi), %edx
        mov     (%edx, %ecx, 4), %eax
        mov     %eax, (%edi)
        ret

/* eax: an mfn -> ecx: its place in the p2m. Changes edx. */
pfn_of: mov     info, %edx
        mov     MFN_LIST(%edx), %edx
        xor     %ecx, %ecx
1:      cmp     %eax, (%edx, %ecx, 4)
        je      2f
        inc     %ecx
        jmp     1b
2:      ret

print:  mov     info, %eax
        mov     CONSOLE_MFN(%eax), %eax
        call    pfn_of
        shl     $12, %ecx
        lea     VIRT_BASE(%ecx), %edi
        mov     RING_OUT_PROD(%edi), %edx
        mov     $line, %esi
1:      lodsb
        test    %al, %al
        jz      2f
        mov     %edx, %ecx
        and     $RING_OUT_MASK, %ecx
        mov     %al, RING_OUT(%edi, %ecx)
        inc     %edx
        jmp     1b
2:      mov     %edx, RING_OUT_PROD(%edi)
        incb    line_digit
        mov     info, %eax
        mov     CONSOLE_EVTCHN(%eax), %eax
        mov     %eax, argument
        mov     $EVTCHNOP_SEND, %ebx
        mov     $argument, %ecx
        mov     $EVENT_CHANNEL_OP, %eax
        int     $HYPERCALL
        ret

/* Top page -> a list page -> the builder's own p2m pages, each level by machine frame. */
publish_tree:
        mov     info, %eax
        mov     NR_PAGES(%eax), %ecx
        add     $1023, %ecx
        shr     $10, %ecx               /* pages of the p2m */
        mov     MFN_LIST(%eax), %esi
        mov     $list, %edi
1:      mov     %esi, %eax
        call    mfn_of
        stosl
        add     $4096, %esi
        loop    1b
        mov     $list, %eax
        call    mfn_of
        mov     %eax, top
        call    map_shared_info
        mov     $top, %eax
        call    mfn_of
        mov     %eax, window + FRAME_LIST_LIST
        jmp     unmap_shared_info

/* Names the top page table as cr3 does: its frame can be beyond 4 GiB. */
publish_linear:
        call    map_shared_info
        mov     info, %eax
        mov     MFN_LIST(%eax), %edx
        mov     %edx, window + P2M_VADDR
        mov     PT_BASE(%eax), %eax
        call    mfn_of
        rol     $12, %eax
        mov     %eax, window + P2M_CR3
        jmp     unmap_shared_info

/* With max_pfn filled in. It is unmapped again: a guest with a mapping of it cannot be saved. */
map_shared_info:
        mov     info, %eax
        mov     SHARED_INFO(%eax), %ecx
        or      $PAGE_RW, %ecx
        call    map_window
        mov     info, %eax
        mov     NR_PAGES(%eax), %eax
        mov     %eax, window + MAX_PFN
        ret
unmap_shared_info:
        xor     %ecx, %ecx
map_window:
        mov     $window, %ebx
        xor     %edx, %edx
        mov     $UVMF_INVLPG, %esi
        mov     $UPDATE_VA_MAPPING, %eax
        int     $HYPERCALL
        ret

/* eax: a virtual address -> its mfn. Changes edx. */
mfn_of: sub     $VIRT_BASE, %eax
        shr     $12, %eax
        mov     info, %edx
        mov     MFN_LIST(%edx), %edx
        mov     (%edx, %eax, 4), %eax
        ret

        .section .magic, "aw"
        .set    index, 0
        .rept   512
        .quad   MAGIC_WORD + index
        .set    index, index + 1
        .endr

        .section .heartbeat, "aw"
heartbeat:
        .quad   0

        .data
actions:
        .long   'p', print, 'f', publish_tree, 'y', yield, 'w', spin, 'b', block, 'q', poweroff
        .long   'c', crash, 's', suspend, 'm', publish_linear, 0
line:   .ascii  "pyxc PV32 guest: line "
line_digit:
        .asciz  "1\r\n"
        .balign 8
info:   .long   0
program:
        .long   0
argument:
        .quad   0
poll:   .quad   0, 0, 0

        .bss
        .balign 4096
window: .skip   4096
top:    .skip   4096
list:   .skip   4096
stack:  .skip   4096
stack_end:
        .section .note.GNU-stack, "", @progbits
