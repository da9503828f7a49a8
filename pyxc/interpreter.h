/* SPDX-License-Identifier: MIT */
/* What the native core needs of CPython that Cython does not offer. */
#ifndef PYXC_INTERPRETER_H
#define PYXC_INTERPRETER_H

#include <Python.h>
#include <stddef.h>
#include <string.h>

/*
 * Mappings, forks and descriptors belong to the whole process, so the module works in one interpreter only:
 * the main one. Cython would leave it to the first that imports it, and refuse all others, the main one too.
 * So Cython's function that makes the module is wrapped, at the point where every import begins.
 */
typedef PyObject *create_module(PyObject *spec, PyModuleDef *definition);

static create_module *create_anywhere;

static PyObject *create_in_main_interpreter(PyObject *spec, PyModuleDef *definition)
{
    if (PyInterpreterState_Get() == PyInterpreterState_Main())
        return create_anywhere(spec, definition);
    PyErr_SetString(PyExc_ImportError, "pyxc._core does not work in a sub-interpreter: "
                                       "import pyxc in the main interpreter or in another process");
    return NULL;
}

static PyObject *refuse_sub_interpreters(PyModuleDef *definition)
{
    PyModuleDef_Slot *slot;

    for (slot = definition->m_slots; slot->slot; slot++)
        if (slot->slot == Py_mod_create && slot->value != (void *)create_in_main_interpreter) {
            create_anywhere = (create_module *)slot->value;
            slot->value = (void *)create_in_main_interpreter;
        }
    return PyModuleDef_Init(definition);
}

#define PyModuleDef_Init(definition) refuse_sub_interpreters(definition)

/*
 * A tuple of a class, whose items are still to be set; the collector does not see it. Since Python 3.14 a tuple
 * keeps its hash in front of its items: -1 for none.
 */
static inline PyObject *new_tuple(PyTypeObject *cls, Py_ssize_t count)
{
    PyTupleObject *tuple = PyObject_GC_NewVar(PyTupleObject, cls, count);

    if (tuple == NULL)
        return NULL;
    memset((char *)tuple + sizeof(PyVarObject), 0,
           offsetof(PyTupleObject, ob_item) - sizeof(PyVarObject) + count * sizeof(PyObject *));
    if (offsetof(PyTupleObject, ob_item) > sizeof(PyVarObject))
        *(Py_hash_t *)((char *)tuple + sizeof(PyVarObject)) = -1;
    return (PyObject *)tuple;
}

#endif
