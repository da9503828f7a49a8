/* SPDX-License-Identifier: MIT
 *
 * A small PVH guest, 32-bit, flat, unpaged. Its command line is its program, a letter for each step:
 *   p  print a line on the console          y  yield the processor once
 *   w  spin for ever, counting in memory    b  block for ever
 *   q  power off                            c  crash
 * Other letters do nothing; the end of the program powers off.
 *
 * What a test can rely on: while it spins or blocks, esi, edi and ebp hold the MAGIC values below; the page
 * at gfn 0x101 holds the quadwords MAGIC_WORD + 0, 1, ... 511; the first word at gfn 0x102 grows while it spins.
 * The numbers are those of Xen's public headers (hvm/start_info.h, hvm/params.h, sched.h, io/console.h).
 */
#define MAGIC_ESI       0x70796573              /* "pyes" */
#define MAGIC_EDI       0x70796564
#define MAGIC_EBP       0x70796562
#define MAGIC_WORD      0x7079786300000000

#define SCHED_OP        29
#define EVENT_CHANNEL_OP 32
#define HVM_OP          34
#define SCHEDOP_YIELD   0
#define SCHEDOP_SHUTDOWN 2
#define SCHEDOP_POLL    3
#define EVTCHNOP_SEND   4
#define HVMOP_GET_PARAM 1
#define PARAM_CONSOLE_PFN 17
#define PARAM_CONSOLE_EVTCHN 18
#define DOMID_SELF      0x7ff0
#define SHUTDOWN_POWEROFF 0
#define SHUTDOWN_CRASH  3

#define START_INFO_CMDLINE 24
#define RING_OUT        1024
#define RING_OUT_MASK   2047
#define RING_OUT_PROD   3084

        .section .note.Xen, "a", @note
        .balign 4
        .long   4, 4, 18                        /* PHYS32_ENTRY */
        .asciz  "Xen"
        .long   _start

        .text
        .code32
        .globl  _start
_start: cld
        mov     $stack_end, %esp
        mov     START_INFO_CMDLINE(%ebx), %eax
        mov     %eax, program

/* Xen's CPUID leaves start at a multiple of 0x100 from 0x40000000 on; leaf +2 names the register that takes the
 * address of a page to be filled with hypercall stubs. */
        mov     $0x40000000, %esi
1:      mov     %esi, %eax
        cpuid
        cmp     $0x566e6558, %ebx               /* "XenV" */
        je      2f
        add     $0x100, %esi
        jmp     1b
2:      lea     2(%esi), %eax
        cpuid
        mov     %ebx, %ecx
        mov     $hypercall_page, %eax
        xor     %edx, %edx
        wrmsr

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
        call    hypercall
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
/* eax: number; ebx, ecx: arguments. */
hypercall:
        shl     $5, %eax
        add     $hypercall_page, %eax
        jmp     *%eax

print:  mov     $PARAM_CONSOLE_PFN, %eax
        call    hvm_param
        shl     $12, %eax
        mov     %eax, %edi
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
        mov     $PARAM_CONSOLE_EVTCHN, %eax
        call    hvm_param
        mov     %eax, argument
        mov     $EVTCHNOP_SEND, %ebx
        mov     $argument, %ecx
        mov     $EVENT_CHANNEL_OP, %eax
        jmp     hypercall

/* eax: number of a parameter of this guest -> its value. */
hvm_param:
        mov     %eax, param_index
        mov     $HVMOP_GET_PARAM, %ebx
        mov     $param, %ecx
        mov     $HVM_OP, %eax
        call    hypercall
        mov     param_value, %eax
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
        .long   'p', print, 'y', yield, 'w', spin, 'b', block, 'q', poweroff, 'c', crash, 0
line:   .ascii  "pyxc PVH guest: line "
line_digit:
        .asciz  "1\r\n"
        .balign 8
param:  .long   DOMID_SELF
param_index:
        .long   0
param_value:
        .quad   0
argument:
        .quad   0
poll:   .quad   0, 0, 0
program:
        .long   0

        .bss
        .balign 4096
hypercall_page:
        .skip   4096
stack:  .skip   4096
stack_end:
        .section .note.GNU-stack, "", @progbits
