/* SPDX-License-Identifier: MIT
 *
 * A small 64-bit PV guest. Its command line is its program, a letter for each step:
 *   p  print a line on the console          m  publish the p2m in its linear form (p2m_vaddr, p2m_cr3)
 *   y  yield the processor once             f  publish the p2m as a list of lists of frames
 *   w  spin for ever, counting in memory    b  block for ever
 *   q  power off                            c  crash
 *   s  suspend, as a guest does that is to be saved or to go on elsewhere
 * Other letters do nothing; the end of the program powers off.
 *
 * What a test can rely on: from the first step on, r12 to r15 hold the MAGIC values below; the page at pfn
 * 1 holds the quadwords MAGIC_WORD + 0, 1, ... 511; the first quadword at pfn 2 grows while the guest spins, the
 * second is what the last suspend returned.
 * The numbers are those of Xen's public headers (xen.h, sched.h, event_channel.h, arch-x86/xen.h, io/console.h).
 */
#define VIRT_BASE       0xffffffff80000000
#define M2P             0xffff800000000000

#define MAGIC_R12       0x7079786372313221      /* "pyxcr12!" */
#define MAGIC_R13       0x7079786372313321
#define MAGIC_R14       0x7079786372313421
#define MAGIC_R15       0x7079786372313521
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
#define SHARED_INFO     40
#define STORE_MFN       56
#define CONSOLE_MFN     72
#define CONSOLE_EVTCHN  80
#define PT_BASE         88
#define MFN_LIST        104
#define CMD_LINE        128
/* shared_info */
#define MAX_PFN         3088
#define FRAME_LIST_LIST 3096
#define P2M_CR3         3112
#define P2M_VADDR       3120
/* console ring: 2048 bytes of output behind 1024 of input */
#define RING_OUT        1024
#define RING_OUT_MASK   2047
#define RING_OUT_PROD   3084

/* One list page names 512 pages of the p2m, 1 GiB of guest. */
#define LIST_PAGES      8

        .section .note.Xen, "a", @note
        .macro NOTE type:req, value:vararg
        .balign 4
        .long 4, 2f - 1f, \type
        .asciz "Xen"
1:      \value
2:      .balign 4
        .endm
        NOTE 6, .asciz "pyxc-pv"        /* GUEST_OS */
        NOTE 8, .asciz "generic"        /* LOADER */
        NOTE 5, .asciz "xen-3.0"        /* XEN_VERSION */
        NOTE 3, .quad VIRT_BASE         /* VIRT_BASE */
        NOTE 4, .quad 0                 /* PADDR_OFFSET */
        NOTE 1, .quad _start            /* ENTRY */

/* rbx: start_info. rbp: the next step of the program. */
        .text
        .globl _start
_start: cld
        lea     stack_end(%rip), %rsp
        mov     %rsi, %rbx
        lea     CMD_LINE(%rbx), %rbp
        movabs  $MAGIC_R12, %r12
        movabs  $MAGIC_R13, %r13
        movabs  $MAGIC_R14, %r14
        movabs  $MAGIC_R15, %r15

step:   movzbl  (%rbp), %eax
        inc     %rbp
        test    %al, %al
        jz      poweroff
        lea     actions(%rip), %rsi
1:      movzbl  (%rsi), %edx
        test    %dl, %dl
        jz      step
        cmp     %al, %dl
        je      2f
        add     $16, %rsi
        jmp     1b
2:      call    *8(%rsi)
        jmp     step

poweroff:
        movl    $SHUTDOWN_POWEROFF, argument(%rip)
        jmp     shutdown
crash:  movl    $SHUTDOWN_CRASH, argument(%rip)
shutdown:
        mov     $SCHEDOP_SHUTDOWN, %edi
        call    sched_op_argument
1:      jmp     1b

spin:   incq    heartbeat(%rip)
        jmp     spin

/* The frames in start_info become pfns, and its own frame is passed on: who resumes the guest makes mfns of them
 * again, or returns 1, and it is left to the guest. */
suspend:
        lea     STORE_MFN(%rbx), %rdi
        call    mfn_to_pfn
        lea     CONSOLE_MFN(%rbx), %rdi
        call    mfn_to_pfn
        mov     %rbx, %rax
        call    mfn_of
        mov     %rax, %rdx
        movl    $SHUTDOWN_SUSPEND, argument(%rip)
        mov     $SCHEDOP_SHUTDOWN, %edi
        call    sched_op_argument
        mov     %rax, suspend_returned(%rip)
        test    %rax, %rax
        jz      1f
        lea     STORE_MFN(%rbx), %rdi
        call    pfn_to_mfn
        lea     CONSOLE_MFN(%rbx), %rdi
        call    pfn_to_mfn
1:      ret

mfn_to_pfn:
        movabs  $M2P, %rdx
        jmp     translate
pfn_to_mfn:
        mov     MFN_LIST(%rbx), %rdx
translate:
        mov     (%rdi), %rax
        mov     (%rdx, %rax, 8), %rax
        mov     %rax, (%rdi)
        ret

/* SCHEDOP_poll on no port, without a time: SCHEDOP_block would unmask events, and there is no handler for one. */
block:  mov     $SCHEDOP_POLL, %edi
        lea     poll(%rip), %rsi
        mov     $SCHED_OP, %eax
        syscall
        jmp     block

yield:  mov     $SCHEDOP_YIELD, %edi
sched_op_argument:
        lea     argument(%rip), %rsi
        mov     $SCHED_OP, %eax
        syscall
        ret

/* The ring's frame is known by its mfn; the M2P, which Xen shows every PV guest, gives the pfn. */
print:  mov     CONSOLE_MFN(%rbx), %rax
        movabs  $M2P, %rcx
        mov     (%rcx, %rax, 8), %rdi
        shl     $12, %rdi
        add     $VIRT_BASE, %rdi
        mov     RING_OUT_PROD(%rdi), %edx
        lea     line(%rip), %rsi
1:      lodsb
        test    %al, %al
        jz      2f
        mov     %edx, %ecx
        and     $RING_OUT_MASK, %ecx
        mov     %al, RING_OUT(%rdi, %rcx)
        inc     %edx
        jmp     1b
2:      mov     %edx, RING_OUT_PROD(%rdi)
        incb    line_digit(%rip)
        mov     CONSOLE_EVTCHN(%rbx), %eax
        mov     %eax, argument(%rip)
        mov     $EVTCHNOP_SEND, %edi
        lea     argument(%rip), %rsi
        mov     $EVENT_CHANNEL_OP, %eax
        syscall
        ret

publish_linear:
        call    map_shared_info
        mov     MFN_LIST(%rbx), %rax
        mov     %rax, P2M_VADDR(%r8)
        mov     PT_BASE(%rbx), %rax
        call    mfn_of
        shl     $12, %rax
        mov     %rax, P2M_CR3(%r8)
        jmp     unmap_shared_info

/* Top page -> list pages -> the builder's own p2m pages, each level by machine frame. */
publish_tree:
        mov     NR_PAGES(%rbx), %rcx
        add     $511, %rcx
        shr     $9, %rcx                /* pages of the p2m */
        lea     lists(%rip), %rdi
        mov     MFN_LIST(%rbx), %rsi
        call    list_mfns
        mov     $LIST_PAGES, %ecx
        lea     top(%rip), %rdi
        lea     lists(%rip), %rsi
        call    list_mfns
        call    map_shared_info
        lea     top(%rip), %rax
        call    mfn_of
        mov     %rax, FRAME_LIST_LIST(%r8)
        jmp     unmap_shared_info

/* Store at rdi the mfns of rcx pages from virtual address rsi on. */
list_mfns:
        mov     %rsi, %rax
        call    mfn_of
        stosq
        add     $4096, %rsi
        dec     %rcx
        jnz     list_mfns
        ret

/* rax: a virtual address -> its mfn. Changes rdx. */
mfn_of: sub     $VIRT_BASE, %rax
        shr     $12, %rax
        mov     MFN_LIST(%rbx), %rdx
        mov     (%rdx, %rax, 8), %rax
        ret

/* r8: where shared_info is now, with max_pfn filled in. It is unmapped again: a guest with a mapping of it
 * cannot be saved. */
map_shared_info:
        mov     SHARED_INFO(%rbx), %rsi
        or      $PAGE_RW, %rsi
        call    map_window
        lea     window(%rip), %r8
        mov     NR_PAGES(%rbx), %rax
        mov     %rax, MAX_PFN(%r8)
        ret
unmap_shared_info:
        xor     %esi, %esi
map_window:
        lea     window(%rip), %rdi
        mov     $UVMF_INVLPG, %edx
        mov     $UPDATE_VA_MAPPING, %eax
        syscall
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
suspend_returned:
        .quad   0

        .data
actions:
        .quad   'p', print, 'm', publish_linear, 'f', publish_tree, 'y', yield
        .quad   'w', spin, 'b', block, 'q', poweroff, 'c', crash
        .quad   's', suspend, 0
line:   .ascii  "pyxc PV guest: line "
line_digit:
        .asciz  "1\r\n"
        .balign 8
argument:
        .quad   0
poll:   .quad   0, 0, 0

        .bss
        .balign 4096
window: .skip   4096
top:    .skip   4096
lists:  .skip   4096 * LIST_PAGES
stack:  .skip   4096
stack_end:
        .section .note.GNU-stack, "", @progbits
